//! A storage in which the sync of a file makes durable what is there when it begins, and then
//! waits until the test lets it pass. Writes can be held up too, before they begin.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use forebay::storage::{Access, File, Storage};

/// A time limit that no wait is expected to reach.
const LONG: Duration = Duration::from_secs(60);

/// A gate that each sync of a storage passes at its end. It is open at first, and dropping it
/// opens it, also in a test that fails.
#[derive(Debug, Default)]
pub(crate) struct Gate(Arc<Passage>);

#[derive(Debug, Default)]
struct Passage {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    holds_writes: bool,
    /// How many syncs have come to the closed gate, and how many of them may pass, first come
    /// first.
    came: u32,
    may_pass: u32,
}

impl Gate {
    /// Any storage, with this gate for its syncs.
    pub(crate) fn behind(&self, inner: impl Storage + 'static) -> Gated {
        Gated {
            inner: Arc::new(inner),
            passage: Arc::clone(&self.0),
        }
    }

    pub(crate) fn close(&self) {
        self.0.change(|state| state.is_closed = true);
    }

    /// Holds up the writes of files until the gate is opened.
    pub(crate) fn hold_writes(&self) {
        self.0.change(|state| state.holds_writes = true);
    }

    pub(crate) fn open(&self) {
        self.0.change(|state| *state = State::default());
    }

    /// Waits until at least `count` syncs are at the gate.
    pub(crate) fn wait_for(&self, count: u32) {
        self.0
            .wait_until(|state| state.came - state.may_pass >= count);
    }

    /// Lets the sync pass that has been at the gate longest.
    pub(crate) fn let_one_pass(&self) {
        self.wait_for(1);
        self.0.change(|state| state.may_pass += 1);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Passage {
    fn pass(&self) {
        let mut number = 0;
        self.change(|state| {
            number = state.came;
            state.came += u32::from(state.is_closed);
        });
        self.wait_until(|state| !state.is_closed || number < state.may_pass);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        let state = self.state.lock().unwrap();
        let not_yet = |state: &mut State| !condition(state);
        let (state, waited) = self
            .changed
            .wait_timeout_while(state, LONG, not_yet)
            .unwrap();
        drop(state);
        assert!(!waited.timed_out(), "nothing came or went in {LONG:?}");
    }
}

/// See [`Gate::behind`].
#[derive(Debug)]
pub(crate) struct Gated {
    inner: Arc<dyn Storage>,
    passage: Arc<Passage>,
}

impl Storage for Gated {
    forward!(inner: create_dir list rename delete sync_dir lock map free_bytes);

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(GatedFile {
            file: self.inner.open(path, access)?,
            passage: Arc::clone(&self.passage),
        }))
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Box<dyn File>,
    passage: Arc<Passage>,
}

impl File for GatedFile {
    forward!(file: read_at len truncate);

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.passage.wait_until(|state| !state.holds_writes);
        self.file.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let result = self.file.sync();
        self.passage.pass();
        result
    }
}
