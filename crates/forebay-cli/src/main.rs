//! `forebay`: a durable disk buffer for event pipelines, on the command line.
//!
//! `main` parses and reports, [`commands`] has one file per command. Invariant:
//! the program works on buffers through the library's public API only.

mod args;
mod buffer;
mod commands;
mod consumer;
mod failure;
mod io;
mod output;
mod picture;
mod producer;
mod stop;
mod vector;

use clap::{CommandFactory as _, Parser, Subcommand};
use commands::{
    bench, cat, doctor, drain, export, generate, import, inspect, ls, mend, metrics, pipe, pull,
    push, repair, salvage, skip, top, transfer, verify,
};
use std::process::ExitCode;

/// A durable disk buffer for event pipelines
///
/// Forebay keeps events on disk between what produces them and what consumes
/// them. An event that was accepted is delivered, in order, at least once,
/// across crashes, power cuts, full disks and slow consumers.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    max_term_width = 100,
    after_help = "\
Begin with:
  seq 1 1000000 | forebay pipe spool -- wc -l

`forebay help COMMAND` explains a command, with examples. Sizes are given as
256MiB, durations as 500ms.

The exit status is
  0        when all is well
  1        when damage or losses were found, or records were dropped, set aside
           or left unacknowledged, and that was reported
  2        on errors; one sentence says what, where and what to do
  128 + n  after signal n
and for `pipe` otherwise the status of its program."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Store records from standard input in a buffer
    Push(push::Args),
    /// Take records out of a buffer, to standard output
    Pull(pull::Args),
    /// Run a program on standard input, with a buffer in between
    Pipe(pipe::Args),
    /// Empty buffers that nobody feeds any more, into a program or another buffer
    Drain(drain::Args),
    /// List the buffers below directories, with state, backlog and findings
    Ls(ls::Args),
    /// Describe a buffer: positions, unread events, files, who has it open
    Inspect(inspect::Args),
    /// Watch one or many buffers, live
    Top(top::Args),
    /// Print the figures of buffers for Prometheus, or serve them
    Metrics(metrics::Args),
    /// Check buffers and what is around them, and say what to do
    Doctor(doctor::Args),
    /// Check every byte of a buffer
    Verify(verify::Args),
    /// Replace a damaged buffer by a clean one of all that checks out
    Repair(repair::Args),
    /// Open and close a buffer, which mends what a crash leaves
    Mend(mend::Args),
    /// Make a new buffer of what is left of others
    Salvage(salvage::Args),
    /// Move records to the end of another buffer
    Move(transfer::MoveArgs),
    /// Copy records to the end of another buffer
    Copy(transfer::CopyArgs),
    /// Send dead letters again
    Redrive(transfer::RedriveArgs),
    /// Step over records that hold a buffer up
    Skip(skip::Args),
    /// Print records without consuming them
    Cat(cat::Args),
    /// Write a buffer's records to a file or a pipe, to make the same buffer again
    Export(export::Args),
    /// Make a buffer of an export
    Import(import::Args),
    /// Measure this machine: raw file access, and the buffer on it
    Bench(bench::Args),
    /// Write man pages, or the completions of a shell
    Generate(generate::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Push(args) => push::run(args),
        Command::Pull(args) => pull::run(args),
        Command::Pipe(args) => pipe::run(args),
        Command::Drain(args) => drain::run(args),
        Command::Ls(args) => ls::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Top(args) => top::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Mend(args) => mend::run(args),
        Command::Salvage(args) => salvage::run(args),
        Command::Move(args) => transfer::run_move(args),
        Command::Copy(args) => transfer::run_copy(args),
        Command::Redrive(args) => transfer::run_redrive(args),
        Command::Skip(args) => skip::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Generate(args) => generate::run(args, Cli::command()),
    };
    ExitCode::from(match outcome {
        Ok(outcome) => outcome.status(),
        Err(failure) => {
            output::note(&failure.message);
            failure.status
        }
    })
}
