//! `forebay top`: one or many buffers, live, on a terminal.
//!
//! Invariants:
//! - Nothing is written to a buffer, and no lock is taken.
//! - The terminal is given back as it was, however the command ends, except by SIGKILL.
//! - Looks at buffers are made in a thread of their own: a disk that hangs holds up no key.

mod detail;
mod draw;
mod figures;
mod list;
mod look;
mod looks;
mod screen;
mod short;
mod state;

use self::look::Look;
use self::looks::{Looks, News};
use self::screen::{Key, Screen};
use self::state::State;
use crate::args::sizes::{Size, Time};
use crate::failure::{Failure, Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output::colours;
use crate::stop::Stop;
use clap::ValueHint;
use signal_hook::consts::signal::SIGINT;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the end of the terminal counts as. Not every system has a name for it.
const SIGHUP: i32 = 1;

/// How long to wait for a key before news of the looks are taken.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// The screen is drawn at least this often, because it says how old the last look is.
const DRAW_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time from look to look.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Rows that the keys for a page move.
const PAGE: isize = 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay top spool
  forebay top /var/lib/vector/buffer/v2
      all buffers below a directory, also those that Vector has open
  forebay top spool --max-size 10GiB --interval 5s
      the limit of the program that fills it, which the buffer does not store

Each buffer is a row: who has it, what is unread, events a second in and out over
the last ten seconds, the age of the oldest unread record, how full it is, and
when it is full or empty if that goes on. An orphan has unread events, and no
process has it open. Without --max-size, full means that the disk is.

Below are the rates of the selected buffer as lines, a character a look, and its
data files end to end.

Keys:
  q, Ctrl-C          end
  p, space           pause, and go on
  s                  sort by the next column
  r                  reverse the order
  up, down, j, k     select a buffer
  Home, End, PgUp, PgDn
                     the same in larger steps

Works while other processes have the buffers open, and never writes to them. Needs
a terminal of 80 columns by 24 lines or more; does without colours (NO_COLOR) and
without UTF-8. For programs, use `forebay inspect --json`.

The exit status is
  0        when `q` ended it
  2        on errors, such as no terminal
  128 + n  after signal n; Ctrl-C counts as SIGINT, and a terminal that is closed
           as SIGHUP")]
pub(crate) struct Args {
    /// Directories of buffers, or directories with buffers below them
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath, required = true)]
    directories: Vec<PathBuf>,

    /// How often to look
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1s",
        allow_hyphen_values = true
    )]
    interval: Time,

    /// The most that each buffer may occupy [default: what the disk has room for]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    max_size: Option<Size>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let Time(interval) = args.interval;
    if interval < INTERVAL_MIN {
        return Err(Failure::new("--interval must be 100ms or more"));
    }
    require_terminal()?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    let looks = Looks::start(&args.directories, interval)?;
    let look = Look {
        has_colours: colours(),
        has_blocks: is_utf8(),
    };
    let state = State::new(interval, args.max_size.map(|size| size.0), look);
    watch(state, &looks, &stop).map_err(|error| Failure::io("use the terminal", &error))
}

fn watch(mut state: State, looks: &Looks, stop: &Stop) -> io::Result<Outcome> {
    let mut screen = Screen::take()?;
    let mut last_round: Option<Instant> = None;
    let mut drawn: Option<Instant> = None;
    let mut has_changed = true;
    loop {
        while let Some(news) = looks.next() {
            // While it is paused, looks go on and are not shown.
            match news {
                News::Seen { .. } if state.is_paused => {}
                News::Seen {
                    at,
                    directory,
                    seen,
                } => state.take(at, &directory, seen),
                News::Round => {
                    last_round = Some(Instant::now());
                    has_changed |= !state.is_paused;
                }
            }
        }
        if has_changed || drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW_INTERVAL) {
            state.last_look = last_round.map(|round| round.elapsed());
            screen.draw(&state)?;
            drawn = Some(Instant::now());
        }
        has_changed = true;
        match screen.key(KEY_WAIT)? {
            Some(Key::Quit) => return Ok(Outcome::Fine),
            Some(Key::Interrupt) => return Ok(stopped(SIGINT)),
            Some(Key::Gone) => return Ok(stopped(SIGHUP)),
            Some(Key::Suspend) => screen.suspend()?,
            Some(Key::Act(action)) => state.act(action),
            Some(Key::Redraw) => screen.redraw()?,
            None => has_changed = false,
        }
        if let Some(signal) = stop.signal() {
            return Ok(Outcome::Stopped(signal));
        }
    }
}

fn stopped(signal: i32) -> Outcome {
    Outcome::Stopped(u8::try_from(signal).unwrap_or(0))
}

fn require_terminal() -> Result<()> {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if io::stdin().is_terminal() && io::stdout().is_terminal() && !is_dumb {
        return Ok(());
    }
    Err(Failure::new(
        "`top` needs a terminal on standard input and standard output; for programs, use \
         `forebay inspect --quick --json`",
    ))
}

/// Whether the terminal takes more than ASCII, by the locale.
fn is_utf8() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let mut set = names.iter().filter_map(std::env::var_os);
    match set.find(|value| !value.is_empty()) {
        Some(locale) => {
            let locale = locale.to_string_lossy().to_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        }
        None => cfg!(windows),
    }
}
