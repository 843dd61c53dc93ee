//! The program, run as its users run it. One module per subject.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets an error has failed"
)]

#[cfg(unix)]
mod bad_input;
mod bench;
mod cat;
#[cfg(unix)]
mod closed;
mod counting;
#[cfg(unix)]
mod doctor;
#[cfg(unix)]
mod drain;
mod export;
#[cfg(unix)]
mod full_disk;
mod generate;
mod inspect;
mod inspect_html;
mod json_keys;
#[cfg(unix)]
mod kill;
#[cfg(unix)]
mod limits;
#[cfg(unix)]
mod live;
#[cfg(unix)]
mod ls;
#[cfg(unix)]
mod metrics;
#[cfg(unix)]
mod moments;
#[cfg(unix)]
mod numbered;
#[cfg(unix)]
mod pipe;
#[cfg(unix)]
mod pipe_acks;
#[cfg(unix)]
mod pipe_dead_letters;
mod pull;
mod push;
#[cfg(unix)]
mod repair;
#[cfg(unix)]
mod rescue_page;
#[cfg(unix)]
mod salvage;
mod support;
#[cfg(unix)]
mod terminal;
#[cfg(unix)]
mod top;
#[cfg(unix)]
mod transfer;
mod verify;
