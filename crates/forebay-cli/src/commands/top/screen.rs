//! The terminal: taken, drawn on, given back; and its keys.

use super::PAGE;
use super::draw::draw;
use super::state::{Action, State};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io;
use std::time::Duration;

/// The terminal while it is ours. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Screen {
    // Dropped first: it shows the cursor again.
    terminal: DefaultTerminal,
    _taken: Taken,
}

/// Gives the terminal back when it is dropped.
#[derive(Debug)]
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        // A terminal that is gone cannot be given back.
        let _ = ratatui::try_restore();
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    /// Ctrl-C, which sends no signal while the terminal is ours.
    Interrupt,
    /// Ctrl-Z, for the same reason.
    Suspend,
    Act(Action),
    /// The terminal was closed, or its connection was.
    Gone,
    /// The size has changed, or somebody has written over it (Ctrl-L).
    Redraw,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Self> {
        // Made first, so that a terminal that is taken in part is given back, too.
        let taken = Taken;
        Ok(Self {
            terminal: ratatui::try_init()?,
            _taken: taken,
        })
    }

    pub(super) fn draw(&mut self, state: &State) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, state))?;
        Ok(())
    }

    /// Has the next drawing send every cell.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    /// Gives the terminal back, stops the process, and takes the terminal again when the
    /// process goes on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        #[cfg(unix)]
        {
            self.terminal.show_cursor()?;
            ratatui::try_restore()?;
            signal_hook::low_level::raise(signal_hook::consts::SIGTSTP)?;
            self.terminal = ratatui::try_init()?;
        }
        self.terminal.clear()
    }

    /// The next key that means something, if there is one before `wait` is over.
    pub(super) fn key(&self, wait: Duration) -> io::Result<Option<Key>> {
        // Of what was read at once there may be more keys. A terminal that is gone must be noticed
        // before each attempt to read from it: that would never end.
        for wait in [Duration::ZERO, wait] {
            if is_gone(wait)? {
                return Ok(Some(Key::Gone));
            }
            if event::poll(rest(wait))? {
                return Ok(match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => meaning(key),
                    Event::Resize(..) => Some(Key::Redraw),
                    _ => None,
                });
            }
        }
        Ok(None)
    }
}

/// Waits for a key, and returns whether the terminal is gone.
#[cfg(unix)]
fn is_gone(wait: Duration) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdin = io::stdin();
    let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
    let wait = Timespec::try_from(wait).ok();
    match poll(&mut ready, wait.as_ref()) {
        // By a signal, such as that of a new size.
        Err(rustix::io::Errno::INTR) => return Ok(false),
        polled => polled?,
    };
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(ready[0].revents().intersects(gone))
}

#[cfg(not(unix))]
fn is_gone(_: Duration) -> io::Result<bool> {
    Ok(false)
}

/// How long to wait after [`is_gone`] has.
fn rest(wait: Duration) -> Duration {
    if cfg!(unix) { Duration::ZERO } else { wait }
}

fn meaning(key: KeyEvent) -> Option<Key> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Key::Interrupt),
            KeyCode::Char('z') => Some(Key::Suspend),
            KeyCode::Char('l') => Some(Key::Redraw),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Char('p' | ' ') => Key::Act(Action::Pause),
        KeyCode::Char('s') => Key::Act(Action::Sort),
        KeyCode::Char('r') => Key::Act(Action::Reverse),
        KeyCode::Up | KeyCode::Char('k') => Key::Act(Action::Select(-1)),
        KeyCode::Down | KeyCode::Char('j') => Key::Act(Action::Select(1)),
        KeyCode::PageUp => Key::Act(Action::Select(-PAGE)),
        KeyCode::PageDown => Key::Act(Action::Select(PAGE)),
        KeyCode::Home => Key::Act(Action::Select(isize::MIN)),
        KeyCode::End => Key::Act(Action::Select(isize::MAX)),
        _ => return None,
    })
}
