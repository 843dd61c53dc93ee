//! A terminal for programs that show something on one.

use crate::support::wait_until;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const LINES: NonZeroU16 = NonZeroU16::new(24).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(80).unwrap();

/// A terminal, everything that was written to it, and what that makes of its screen.
pub(crate) struct Terminal {
    /// The end that is given to programs.
    pub(crate) end: File,
    keys: File,
    shown: Arc<Mutex<String>>,
    screen: Arc<Mutex<vt100::Parser>>,
    hung_up: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Waits until there is something to read; false once the terminal hangs up.
fn wait_for_output(master: &File, hung_up: &AtomicBool) -> bool {
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    while !hung_up.load(Ordering::SeqCst) {
        let mut ready = [PollFd::new(master, PollFlags::IN)];
        if poll(&mut ready, Some(&pause)).is_ok_and(|count| count > 0) {
            return true;
        }
    }
    false
}

impl Terminal {
    /// A terminal of 80 columns and 24 lines.
    pub(crate) fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        // A program that had this end, too, would keep its own terminal from hanging up.
        fcntl_setfd(&master, FdFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: LINES.get(),
            ws_col: COLUMNS.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = std::ffi::OsStr::from_bytes(name.as_bytes());
        let end = File::options().read(true).write(true).open(path).unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let screen = Arc::new(Mutex::new(vt100::Parser::new(LINES, COLUMNS, 0)));
        let (into, drawn) = (Arc::clone(&shown), Arc::clone(&screen));
        let mut master = File::from(master);
        let keys = master.try_clone().unwrap();
        let hung_up = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&hung_up);
        // The thread ends, with a read error, once the other end is closed everywhere.
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while wait_for_output(&master, &ends)
                && let Ok(len @ 1..) = master.read(&mut bytes)
            {
                let text = String::from_utf8_lossy(&bytes[..len]);
                into.lock().unwrap().push_str(&text);
                drawn.lock().unwrap().process(&bytes[..len]);
            }
        });
        Self {
            end,
            keys,
            shown,
            screen,
            hung_up,
            thread,
        }
    }

    /// Closes the terminal under the programs that use it, as a lost connection does.
    pub(crate) fn hang_up(self) {
        drop(self.keys);
        self.hung_up.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }

    pub(crate) fn stdio(&self) -> Stdio {
        self.end.try_clone().unwrap().into()
    }

    /// Types keys.
    pub(crate) fn press(&self, keys: &[u8]) {
        (&self.keys).write_all(keys).unwrap();
    }

    pub(crate) fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// What the screen shows now.
    pub(crate) fn screen(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the screen shows a text. Programs send only what has changed on it.
    #[track_caller]
    pub(crate) fn wait_for_screen(&self, text: &str) {
        wait_until(text, || self.screen().contains(text));
    }

    /// Waits until a text was written.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        wait_until(text, || self.shown().contains(text));
    }
}
