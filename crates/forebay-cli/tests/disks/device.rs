//! A disk with a volatile write cache, and a switch that cuts its power.
//!
//! The disk is one file of a FUSE file system. A loop device on that file lets the
//! kernel run a real file system on it; a flush of the loop device is a sync of the file.
//!
//! Invariants:
//! - Everything written before a flush that returned survives a power cut.
//! - After a power cut, each sector written after the last flush holds its flushed
//!   contents or any one version written since, independently of the other sectors.
//!   So writes are lost, reordered and torn in units of 512 bytes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request,
    WriteFlags,
};

use crate::moments::Moments;

const SECTOR: usize = 512;
/// The name of the disk's file.
pub(crate) const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
/// Zero, so that the kernel caches no entry or attribute of a disk that was replaced.
const TTL: Duration = Duration::ZERO;

/// The disk; its clones are handles to the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Device(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The contents that reads return.
    live: Vec<u8>,
    /// The contents at the last flush.
    flushed: Vec<u8>,
    /// The versions of each sector written after the last flush, by sector number.
    pending: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    flushes: u64,
}

impl Device {
    /// A disk with these contents, a whole number of sectors.
    pub(crate) fn new(contents: Vec<u8>) -> Self {
        let device = Self::default();
        device.insert(contents);
        device
    }

    /// Replaces the disk by one with these contents.
    pub(crate) fn insert(&self, contents: Vec<u8>) {
        let mut state = self.lock();
        state.flushed.clone_from(&contents);
        state.live = contents;
        state.pending.clear();
    }

    /// The disk's contents after a power cut at this moment. The disk itself stays on.
    pub(crate) fn cut(&self, moments: &mut Moments) -> Cut {
        let state = self.lock();
        let mut contents = state.flushed.clone();
        let mut sectors_lost = 0;
        // Some cuts lose nearly all pending sectors, others nearly none.
        let share = moments.below(101);
        for (sector, versions) in &state.pending {
            if moments.below(100) < share {
                let version = match moments.below(4) {
                    0 => moments.below(versions.len() as u64) as usize,
                    _ => versions.len() - 1,
                };
                let at = sector * SECTOR;
                contents[at..at + SECTOR].copy_from_slice(&versions[version]);
            } else {
                sectors_lost += 1;
            }
        }
        Cut {
            contents,
            sectors_lost,
            flushes: state.flushes,
        }
    }

    /// Mounts the file system that holds the disk's file.
    pub(crate) fn mount(&self, at: &Path) -> BackgroundSession {
        std::fs::create_dir_all(at).unwrap();
        fuser::spawn_mount(Directory(self.clone()), at, &fuser::Config::default()).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn attr(&self, inode: INodeNo) -> FileAttr {
        let (kind, size) = match inode {
            FILE => (FileType::RegularFile, self.lock().live.len() as u64),
            _ => (FileType::Directory, 0),
        };
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// What a power cut leaves.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) contents: Vec<u8>,
    /// Sectors of which every pending write was lost.
    pub(crate) sectors_lost: u64,
    /// Flushes of the disk before the cut.
    pub(crate) flushes: u64,
}

impl State {
    fn write(&mut self, at: usize, data: &[u8]) {
        self.live[at..at + data.len()].copy_from_slice(data);
        for sector in at / SECTOR..(at + data.len()).div_ceil(SECTOR) {
            let mut version = [0; SECTOR];
            version.copy_from_slice(&self.live[sector * SECTOR..][..SECTOR]);
            self.pending.entry(sector).or_default().push(version);
        }
    }

    fn flush(&mut self) {
        for (sector, versions) in std::mem::take(&mut self.pending) {
            if let Some(last) = versions.last() {
                self.flushed[sector * SECTOR..][..SECTOR].copy_from_slice(last);
            }
        }
        self.flushes += 1;
    }
}

/// The file system: a directory with the disk in it.
struct Directory(Device);

impl Filesystem for Directory {
    fn lookup(&self, _: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str() {
            Some(NAME) => reply.entry(&TTL, &self.0.attr(FILE), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.0.attr(inode));
    }

    fn read(
        &self,
        _: &Request,
        _inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.0.lock();
        let begin = (offset as usize).min(state.live.len());
        let end = (begin + size as usize).min(state.live.len());
        reply.data(&state.live[begin..end]);
    }

    fn write(
        &self,
        _: &Request,
        _inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.0.lock();
        if offset as usize + data.len() > state.live.len() {
            return reply.error(Errno::ENOSPC);
        }
        state.write(offset as usize, data);
        reply.written(data.len() as u32);
    }

    fn fsync(&self, _: &Request, _inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.lock().flush();
        reply.ok();
    }
}
