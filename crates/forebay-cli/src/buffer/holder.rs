//! The process that has a buffer open, as the system describes it.
//!
//! Invariant: nothing is sent to that process, and what the system does not tell is `None`.

use forebay::Inspection;
use std::fmt;
use std::fs;

/// A process that has a buffer open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// `None` if the process is in a container that this one cannot see into.
    pub(crate) pid: Option<u32>,
    /// The name of its program.
    pub(crate) program: Option<String>,
}

/// What the system says a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It runs, or sleeps until there is something to do.
    Alive,
    /// A signal has stopped it, or a debugger.
    Stopped,
    /// It waits for a device.
    WaitsForDevice,
    /// It has ended, and its parent has not taken note yet.
    Ended,
}

impl Holder {
    /// The process that has the buffer open; `None` if there is none.
    pub(crate) fn of(inspection: &Inspection) -> Option<Self> {
        let pid = inspection.lock_holder_pid;
        inspection.locked.then(|| Self {
            pid,
            program: pid.and_then(program),
        })
    }

    /// What the process does; `None` where that cannot be known.
    pub(crate) fn condition(&self) -> Option<Condition> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid?)).ok()?;
        condition(&stat)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.program) {
            (Some(pid), Some(program)) => write!(f, "{program} ({pid})"),
            (Some(pid), None) => write!(f, "process {pid}"),
            (None, _) => f.write_str("another process"),
        }
    }
}

fn program(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let name = String::from_utf8_lossy(&name).trim_end().to_owned();
    // A program chooses its name, which must not change a line of text.
    (!name.is_empty()).then(|| name.replace(char::is_control, "?"))
}

/// The state in `/proc/PID/stat`, the first field after the name in parentheses, which may hold
/// parentheses itself.
fn condition(stat: &str) -> Option<Condition> {
    let (_, fields) = stat.rsplit_once(')')?;
    Some(match fields.trim_start().chars().next()? {
        'T' | 't' => Condition::Stopped,
        'D' => Condition::WaitsForDevice,
        'Z' | 'X' => Condition::Ended,
        _ => Condition::Alive,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_process_stands_after_its_name() {
        for (stat, expected) in [
            ("12 (vector) S 1 12", Some(Condition::Alive)),
            ("12 (a) T b)) R 1", Some(Condition::Alive)),
            ("12 (vector) T 1 12", Some(Condition::Stopped)),
            ("12 (vector) D 1 12", Some(Condition::WaitsForDevice)),
            ("12 (vector) Z 1 12", Some(Condition::Ended)),
            ("", None),
            ("12 (vector)", None),
        ] {
            assert_eq!(condition(stat), expected, "{stat}");
        }
    }

    #[test]
    fn a_holder_is_named_as_far_as_it_is_known() {
        let holder = |pid, program: Option<&str>| Holder {
            pid,
            program: program.map(str::to_owned),
        };
        assert_eq!(holder(Some(7), Some("vector")).to_string(), "vector (7)");
        assert_eq!(holder(Some(7), None).to_string(), "process 7");
        assert_eq!(holder(None, None).to_string(), "another process");
    }
}
