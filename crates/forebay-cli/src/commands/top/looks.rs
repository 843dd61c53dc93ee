//! Looks at the buffers again and again, in a thread of its own.
//!
//! Invariant: looking takes at most a fifth of a processor, however many buffers there are.

use crate::args::counting;
use crate::buffer::looks::NoLook;
use crate::failure::{Failure, Result, no_thread};
use forebay::{ErrorKind, InspectOptions, Inspection, find_buffers};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How often buffers are looked for that were not there before.
const FIND_INTERVAL: Duration = Duration::from_secs(10);
/// After a round of looks that took this long, the pause is at least this many times longer.
const PAUSE_FACTOR: u32 = 4;

/// What the thread has found out.
#[derive(Debug)]
pub(super) enum News {
    /// A look, or why it failed.
    Seen {
        at: Instant,
        directory: PathBuf,
        seen: Result<Box<Inspection>, NoLook>,
    },
    /// Every buffer was looked at.
    Round,
}

/// The news of a running thread.
#[derive(Debug)]
pub(super) struct Looks(Receiver<News>);

impl Looks {
    /// Finds the buffers in these directories and below, and begins to look at them.
    ///
    /// # Errors
    ///
    /// A directory is missing, or no buffer is found.
    pub(super) fn start(directories: &[PathBuf], interval: Duration) -> Result<Self> {
        let buffers = find(directories)?;
        let directories = directories.to_vec();
        let (news, looks) = channel();
        // Never joined: it ends with the process, or when nobody takes its news.
        let thread =
            std::thread::Builder::new().spawn(move || look(&directories, buffers, interval, &news));
        thread.map_err(|error| no_thread(&error))?;
        Ok(Self(looks))
    }

    /// The next news, if there are any.
    pub(super) fn next(&self) -> Option<News> {
        self.0.try_recv().ok()
    }
}

/// The buffers to begin with.
fn find(directories: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut buffers = BTreeSet::new();
    let mut unlisted = None;
    for found in find_buffers(directories) {
        match found {
            Ok(buffer) => _ = buffers.insert(buffer),
            Err(error) if error.kind() == ErrorKind::NotABuffer => return Err(error.into()),
            // A directory below that cannot be listed holds up none of the others.
            Err(error) => unlisted = Some(error),
        }
    }
    match (buffers.is_empty(), unlisted) {
        (false, _) => Ok(buffers),
        (true, Some(error)) => Err(error.into()),
        (true, None) => Err(Failure::new(format!(
            "there is no buffer in {} or below",
            shown(directories)
        ))),
    }
}

fn shown(directories: &[PathBuf]) -> String {
    let names = directories.iter().map(|path: &PathBuf| path.display());
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    names.join(", ")
}

fn look(
    directories: &[PathBuf],
    mut buffers: BTreeSet<PathBuf>,
    interval: Duration,
    news: &Sender<News>,
) {
    let options = InspectOptions::new()
        .event_counter(counting::auto())
        .count_records(false);
    let see = |directory: &Path| News::Seen {
        seen: match options.inspect(directory) {
            Ok(inspection) => Ok(Box::new(inspection)),
            Err(error) => Err(NoLook::of(&error)),
        },
        at: Instant::now(),
        directory: directory.to_owned(),
    };
    let mut found_at = Instant::now();
    loop {
        let begun = Instant::now();
        if found_at.elapsed() >= FIND_INTERVAL {
            buffers.extend(find_buffers(directories).flatten());
            found_at = Instant::now();
        }
        let all = buffers.iter().map(|directory| see(directory));
        for item in all.chain([News::Round]) {
            if news.send(item).is_err() {
                return;
            }
        }
        let took = begun.elapsed();
        std::thread::sleep(interval.saturating_sub(took).max(took * PAUSE_FACTOR));
    }
}
