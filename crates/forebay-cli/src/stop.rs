//! Ending early: on a signal, or because there is nothing left to work for.
//!
//! Invariants: once set, a stop stays set; it ends every wait for input, for a
//! program and for room in a pipe. A signal that was ignored when the program
//! started stays ignored, as `nohup` and background jobs rely on.

use crate::failure::{Result, no_thread};
use crate::output::note;
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How often the thread that limits the shutdown checks for a signal without being woken.
const SIGNAL_INTERVAL: Duration = Duration::from_secs(60);

/// A request to end, shared by all threads that wait.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The signal that came last, 0 for none.
    signal: Arc<AtomicUsize>,
    asked: AtomicBool,
    #[cfg(unix)]
    wake: wake::Wake,
}

impl Stop {
    /// A stop that is set by SIGINT and SIGTERM (on Unix by SIGHUP as well),
    /// which no longer end the process by themselves.
    ///
    /// # Errors
    ///
    /// The operating system has no descriptors left.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let inner = Inner {
            signal: Arc::new(AtomicUsize::new(0)),
            asked: AtomicBool::new(false),
            #[cfg(unix)]
            wake: wake::Wake::new()?,
        };
        let signals = [
            SIGINT,
            SIGTERM,
            #[cfg(unix)]
            signal_hook::consts::signal::SIGHUP,
        ];
        for signal in signals {
            if is_ignored(signal) {
                continue;
            }
            // In this order: a thread that is woken must find the signal set.
            let number = usize::try_from(signal).unwrap_or(0);
            signal_hook::flag::register_usize(signal, Arc::clone(&inner.signal), number)?;
            #[cfg(unix)]
            inner.wake.on_signal(signal)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Sets the stop without a signal.
    pub(crate) fn ask(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
        #[cfg(unix)]
        self.0.wake.wake();
    }

    /// Whether it is time to end.
    pub(crate) fn is_set(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst) || self.signal().is_some()
    }

    /// Whether the user asked again for the end. Always false where waking does not go
    /// through a descriptor.
    pub(crate) fn is_asked_again(&self) -> bool {
        #[cfg(unix)]
        return self.0.wake.count() > 1;
        #[cfg(not(unix))]
        false
    }

    /// The signal that asked for the end, if one did.
    pub(crate) fn signal(&self) -> Option<u8> {
        match self.0.signal.load(Ordering::SeqCst) {
            0 => None,
            signal => u8::try_from(signal).ok(),
        }
    }

    /// Ends the process with status 2 when it still runs `limit` after a signal: a disk
    /// that hangs must not keep a service from stopping.
    ///
    /// # Errors
    ///
    /// The operating system refuses to start a thread.
    pub(crate) fn limit_shutdown(&self, limit: Duration) -> Result<()> {
        let stop = self.clone();
        let watch = move || {
            while stop.signal().is_none() {
                stop.wait(SIGNAL_INTERVAL);
            }
            std::thread::sleep(limit);
            note(format!(
                "stopping takes longer than {} s; giving up: what is not synced may be lost",
                limit.as_secs()
            ));
            std::process::exit(2);
        };
        // Never joined: it ends with the process.
        let thread = std::thread::Builder::new().spawn(watch);
        thread.map(drop).map_err(|error| no_thread(&error))
    }

    /// Waits until the stop is set, or until `limit` is over.
    pub(crate) fn wait(&self, limit: Duration) {
        #[cfg(unix)]
        {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let limit = Timespec::try_from(limit).ok();
            let mut ready = [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::IN)];
            // A signal may interrupt this: the caller checks the stop anyway.
            let _ = poll(&mut ready, limit.as_ref());
        }
        #[cfg(not(unix))]
        std::thread::sleep(limit.min(Duration::from_millis(50)));
    }

    /// Readable once the stop is set, and from then on.
    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.wake.descriptor()
    }
}

/// Whether the process was started with a signal ignored. Where the system does not
/// tell, SIGHUP counts as ignored, and SIGINT and SIGTERM do not.
fn is_ignored(signal: i32) -> bool {
    let mask = std::fs::read_to_string("/proc/self/status")
        .ok()
        .as_deref()
        .and_then(|status| status.lines().find_map(|line| line.strip_prefix("SigIgn:")))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match mask {
        Some(mask) => mask >> (signal - 1) & 1 == 1,
        None => !matches!(signal, SIGINT | SIGTERM),
    }
}

#[cfg(unix)]
mod wake {
    //! A socket that becomes readable, and stays so because it is never read: it holds a
    //! byte for each request.

    use rustix::io::ioctl_fionread;
    use std::io::{self, Write as _};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;

    #[derive(Debug)]
    pub(super) struct Wake {
        readable: UnixStream,
        writable: UnixStream,
    }

    impl Wake {
        pub(super) fn new() -> io::Result<Self> {
            let (readable, writable) = UnixStream::pair()?;
            writable.set_nonblocking(true)?;
            Ok(Self { readable, writable })
        }

        pub(super) fn on_signal(&self, signal: i32) -> io::Result<()> {
            signal_hook::low_level::pipe::register(signal, self.writable.try_clone()?)?;
            Ok(())
        }

        pub(super) fn wake(&self) {
            // If the socket is full, it is readable already.
            let _ = (&self.writable).write(b"x");
        }

        /// How often the end was asked for.
        pub(super) fn count(&self) -> u64 {
            // Without an answer, one request is all that is known.
            ioctl_fionread(&self.readable).unwrap_or(1)
        }

        pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
            self.readable.as_fd()
        }
    }
}
