//! The program, run as its users run it. One module per subject.

#[cfg(unix)]
mod bad_input;
mod cat;
mod inspect;
#[cfg(unix)]
mod kill;
#[cfg(unix)]
mod pipe;
mod pull;
mod push;
mod support;
mod verify;
