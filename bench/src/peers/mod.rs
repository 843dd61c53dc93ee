//! The peers, each in a file of its own.

mod commit_log;
mod disk_backed;
mod disk_queue;
mod fjall_db;
mod forebay;
mod lmdb;
mod okay_wal;
mod open_wal;
mod persistent;
mod queue_file;
mod raft;
mod re_wal;
mod redb_db;
mod rocks;
mod segment_buffer;
mod sqlite;
mod wal_db;
pub(crate) mod walrus;
mod yaque;

use crate::peer::About;

/// All of them, in the order of the table: queues, logs, stores.
pub(crate) const ALL: [&About; 19] = [
    &forebay::ABOUT,
    &disk_backed::ABOUT,
    &disk_queue::ABOUT,
    &persistent::ABOUT,
    &queue_file::ABOUT,
    &segment_buffer::ABOUT,
    &yaque::ABOUT,
    &commit_log::ABOUT,
    &okay_wal::ABOUT,
    &open_wal::ABOUT,
    &raft::ABOUT,
    &re_wal::ABOUT,
    &wal_db::ABOUT,
    &walrus::ABOUT,
    &fjall_db::ABOUT,
    &lmdb::ABOUT,
    &redb_db::ABOUT,
    &rocks::ABOUT,
    &sqlite::ABOUT,
];

/// The peer of this name.
pub(crate) fn named(name: &str) -> Option<&'static About> {
    ALL.into_iter().find(|about| about.name == name)
}
