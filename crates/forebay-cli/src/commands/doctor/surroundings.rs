//! Checks of what is around the buffer: disk, file system, permissions, clock.

use super::system::{self, Mount};
use super::{Answer, Patient, SyncTimes};
use crate::output::{age, bytes, count, quoted};
use forebay::Config;
use forebay::format::file_id::is_buffer_file;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file system with less is close to full.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// From here on, a buffer is worth a look.
const FILL_NOTE: f64 = 0.7;
const FILL_PROBLEM: f64 = 0.9;

/// A device that syncs faster writes to no disk and to no flash memory, but to a cache.
const SYNC_TOO_FAST: Duration = Duration::from_micros(100);

/// A sync that takes this long holds up every writer that waits for one.
const SYNC_SLOW: Duration = Duration::from_millis(100);

/// Clocks of machines that share a file system differ by less.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// The format is younger than this time, 2022.
const CLOCK_MIN: Duration = Duration::from_secs(1_640_995_200);

/// The free space against the limits.
pub(super) fn space(patient: &Patient) -> Vec<Answer> {
    const CHECK: &str = "space";
    let look = format!("df -h {}", patient.quoted());
    let used = patient.inspection.disk_bytes();
    let mut answers = Vec::new();
    if let Some(free) = patient.inspection.free_bytes {
        let room = patient
            .max_size
            .map(|max_size| max_size.saturating_sub(used));
        if free < FREE_BYTES_MIN {
            answers.push(Answer::problem(
                CHECK,
                format!(
                    "{} are free on the file system. A full disk holds writers back like a full \
                     buffer: free some space, but delete nothing in the buffer's directory",
                    bytes(free)
                ),
                &look,
            ));
        } else if let Some(room) =
            room.filter(|room| free < room + Config::DEFAULT_QUARANTINE_MAX_SIZE)
        {
            answers.push(Answer::problem(
                CHECK,
                format!(
                    "the disk is full before the buffer is: the buffer may grow by {}, and by {} \
                     for damaged bytes, but {} are free. Free some space, or lower the maximum \
                     size",
                    bytes(room),
                    bytes(Config::DEFAULT_QUARANTINE_MAX_SIZE),
                    bytes(free)
                ),
                &look,
            ));
        } else {
            answers.push(Answer::ok(
                CHECK,
                match room {
                    Some(room) => format!(
                        "{} free, and the buffer may grow by {}",
                        bytes(free),
                        bytes(room)
                    ),
                    None => format!(
                        "{} free (with --max-size, that is compared with what the buffer may take)",
                        bytes(free)
                    ),
                },
            ));
        }
    }
    if let Some(max_size) = patient.max_size {
        let fill = used as f64 / max_size as f64;
        let says = || {
            format!(
                "the buffer is {:.0} % full ({} of {}): its reader is too slow or stopped, or it \
                 is too small",
                fill * 100.0,
                bytes(used),
                bytes(max_size)
            )
        };
        let command = format!("forebay inspect {}", patient.quoted());
        if fill >= FILL_PROBLEM {
            answers.push(Answer::problem(CHECK, says(), command));
        } else if fill >= FILL_NOTE {
            answers.push(Answer::note(CHECK, says(), command));
        }
    }
    if system::free_inodes(&patient.directory) == Some(0) {
        answers.push(Answer::problem(
            CHECK,
            "the file system can hold no more files, whatever space is free",
            format!("df -i {}", patient.quoted()),
        ));
    }
    answers
}

const PERMISSIONS: &str = "permissions";

/// The answer about files of a buffer that this user may not read, if there are any.
pub(super) fn unreadable(directory: &Path) -> Option<Answer> {
    let is_closed = |path: &PathBuf| {
        fs::File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    let mut closed: Vec<_> = fs::read_dir(directory)
        .ok()?
        .flatten()
        .filter(|entry| is_buffer_file(&entry.file_name()))
        .map(|entry| entry.path())
        .filter(is_closed)
        .collect();
    closed.sort();
    let first = closed.first()?;
    let dir = quoted(directory);
    let owner = system::owner(first);
    let (cure, command) = if owner != system::owner(directory) {
        (
            "It does not belong to the owner of the directory, whose program may be unable to open \
             it: as root, give it to that owner"
                .to_owned(),
            format!("chown --reference={dir} {}", quoted(first)),
        )
    } else if !system::owner_may_read(first) {
        (
            "Its mode keeps even its owner from reading it: allow that, as root or as the owner"
                .to_owned(),
            format!("chmod u+rw {}", quoted(first)),
        )
    } else if let Some(owner) = owner {
        (
            format!("Run the command as the owner, the user with the number {owner}"),
            format!("sudo -u '#{owner}' forebay doctor {dir}"),
        )
    } else {
        (
            "Run the command as a user who may".to_owned(),
            format!("ls -la {dir}"),
        )
    };
    let more = match closed.len() - 1 {
        0 => String::new(),
        more => format!(" and {}", count(more as u64, "more file")),
    };
    let name = first.file_name().unwrap_or_default().to_string_lossy();
    Some(Answer::problem(
        PERMISSIONS,
        format!("this user may not read {name}{more}, so the data is not checked. {cure}"),
        command,
    ))
}

/// Owners, modes, and whether anything may be read and written.
pub(super) fn permissions(patient: &Patient) -> Vec<Answer> {
    const CHECK: &str = PERMISSIONS;
    let dir = patient.quoted();
    let entries: Vec<_> = fs::read_dir(&patient.directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
        .collect();
    let mut answers = Vec::from_iter(unreadable(&patient.directory));
    if answers.is_empty()
        && let Some(owner) = system::owner(&patient.directory)
    {
        let others = |path: &&PathBuf| system::owner(path).is_some_and(|of_file| of_file != owner);
        let foreign: Vec<_> = entries.iter().filter(others).collect();
        if let Some(first) = foreign.first() {
            let name = first.file_name().unwrap_or_default().to_string_lossy();
            let more = match foreign.len() - 1 {
                0 => String::new(),
                more => format!(" and {}", count(more as u64, "more file")),
            };
            answers.push(Answer::problem(
                CHECK,
                format!(
                    "{name}{more} does not belong to the owner of the directory: the program that \
                     runs as that owner may be unable to open it"
                ),
                format!("chown --reference={dir} {dir}/*"),
            ));
        }
    }
    let closed = entries
        .iter()
        .map(PathBuf::as_path)
        .chain([patient.directory.as_path()])
        .find(|path| !system::may_write(path));
    match closed {
        None if answers.is_empty() => answers.push(Answer::ok(
            CHECK,
            "one owner, and this user may read and write everything",
        )),
        Some(path) if !patient.inspection.locked => answers.push(Answer::note(
            CHECK,
            format!(
                "this user may not write to {}, so commands that change the buffer have to run as \
                 its owner",
                path.display()
            ),
            format!("ls -la {dir}"),
        )),
        _ => {}
    }
    answers
}

/// File systems on which a sync promises little.
pub(super) fn file_system(directory: &Path, mount: Option<&Mount>) -> Vec<Answer> {
    mount.map_or_else(Vec::new, |mount| {
        of_mount(mount, &format!("findmnt --target {}", quoted(directory)))
    })
}

/// `look` is the command that shows the mount.
fn of_mount(mount: &Mount, look: &str) -> Vec<Answer> {
    const CHECK: &str = "file system";
    let kind = mount.kind.as_str();
    let has = |option: &str| mount.options.iter().any(|has| has == option);
    let mut answers = Vec::new();
    let says = match kind {
        "tmpfs" | "ramfs" => Some(
            "is in memory: a power cut or a reboot takes the whole buffer. Move the buffer to a \
             disk while it is closed",
        ),
        "overlay" if has("volatile") => {
            Some("is an overlay that ignores syncs (volatile): a power cut may take the buffer")
        }
        _ if has("nobarrier") || has("barrier=0") => Some(
            "is mounted without barriers: a power cut takes what a disk has in its cache, \
             whatever was synced",
        ),
        _ => None,
    };
    if let Some(says) = says {
        answers.push(Answer::problem(
            CHECK,
            format!("{kind} at {} {says}", mount.point.display()),
            look,
        ));
        return answers;
    }
    let says = match kind {
        "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "9p" | "virtiofs" | "ceph" | "glusterfs" => {
            Some(
                "is on another machine: a sync is worth what the server makes of it, and locks \
                 work only if the server supports them",
            )
        }
        "overlay" => Some(
            "is the writable layer of a container: the buffer is gone with the container. Give \
             it a volume",
        ),
        _ if kind.starts_with("fuse") => {
            Some("is made by a program (FUSE): a sync is worth what that program makes of it")
        }
        _ => None,
    };
    match says {
        Some(says) => answers.push(Answer::note(
            CHECK,
            format!("{kind} at {} {says}", mount.point.display()),
            look,
        )),
        None => answers.push(Answer::ok(
            CHECK,
            format!("{kind} at {}", mount.point.display()),
        )),
    }
    if has("ro") {
        answers.push(Answer::problem(
            CHECK,
            "it is mounted read-only: nothing can be appended or acknowledged. After an error of \
             the disk, the kernel does that itself: see its log first",
            "dmesg | tail -50",
        ));
    }
    answers
}

/// How long a sync takes.
pub(super) fn syncs(
    directory: &Path,
    mount: Option<&Mount>,
    sync_times: &mut SyncTimes,
) -> Vec<Answer> {
    // Nothing that could sync: the answer about the file system says it.
    if mount.is_some_and(|mount| matches!(mount.kind.as_str(), "tmpfs" | "ramfs")) {
        return Vec::new();
    }
    let measure = || system::sync_time(directory);
    let took = match mount {
        Some(mount) => *sync_times
            .entry(mount.point.clone())
            .or_insert_with(measure),
        None => measure(),
    };
    let Some(took) = took else {
        return Vec::new();
    };
    let measure = format!(
        "forebay bench --quick --work append_synced --dir {}",
        quoted(above(directory))
    );
    vec![of_sync_time(took, measure)]
}

/// `measure` is the command that measures more closely.
fn of_sync_time(took: Duration, measure: String) -> Answer {
    const CHECK: &str = "syncs";
    let took_text = format!("a sync of 4 KiB takes {took:.1?}");
    if took < SYNC_TOO_FAST {
        return Answer::note(
            CHECK,
            format!(
                "{took_text}, which only a device with a cache that survives power cuts can do. If \
                 this is none, something ignores syncs (a virtual disk with cache=unsafe, a \
                 controller without battery), and a power cut takes what was synced"
            ),
            measure,
        );
    }
    if took > SYNC_SLOW {
        return Answer::note(
            CHECK,
            format!("{took_text}: the device is slow, busy or failing"),
            measure,
        );
    }
    Answer::ok(CHECK, took_text)
}

/// The directory that holds a buffer's.
fn above(directory: &Path) -> &Path {
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Times that cannot be.
pub(super) fn clock(patient: &Patient) -> Vec<Answer> {
    const CHECK: &str = "clock";
    let now = SystemTime::now();
    let ahead = |modified: SystemTime| modified.duration_since(now + CLOCK_TOLERANCE).ok();
    let files = patient.inspection.files.iter();
    let furthest = files.filter_map(|file| file.modified.and_then(ahead)).max();
    if now < SystemTime::UNIX_EPOCH + CLOCK_MIN {
        return vec![Answer::problem(
            CHECK,
            "the clock of this machine is years behind, so ages are wrong",
            "timedatectl",
        )];
    }
    match furthest {
        Some(ahead) => vec![Answer::problem(
            CHECK,
            format!(
                "a data file was changed {} after now: the clock was ahead then, or is behind now. \
                 Ages of events, and alerts on them, are wrong meanwhile",
                age((ahead + CLOCK_TOLERANCE).as_secs_f64())
            ),
            "timedatectl",
        )],
        None => vec![Answer::ok(CHECK, "no file is from the future")],
    }
}

/// What damage and repairs left in the directory, which nothing reads. A buffer that may be in
/// use may be in repair.
pub(super) fn leftovers(directory: &Path, may_be_in_use: bool) -> Vec<Answer> {
    let quarantine = directory.join("quarantine");
    let repair = directory.join("repair");
    let mut answers = Vec::new();
    let mut note = |text: &dyn Fn(&str) -> String, (files, len): (u64, u64), command| {
        if files > 0 {
            let size = format!("{}, {}", count(files, "file"), bytes(len));
            answers.push(Answer::note("leftovers", text(&size), command));
        }
    };
    note(
        &|size| {
            format!(
                "quarantine/ holds damaged bytes that opening and reading have set aside: {size}. \
                 Nothing reads them; delete them when nobody needs them any more"
            )
        },
        size_below(&quarantine, &mut BTreeSet::new()),
        format!("ls -lR {}", quoted(&quarantine)),
    );
    let (unfinished, kept) = size_in_repair(&repair);
    note(
        &|size| match may_be_in_use {
            true => format!(
                "repair/ holds new files of a repair that goes on, or was stopped before it \
                 changed anything: {size}. If it was stopped, the next opening or repair deletes \
                 them"
            ),
            false => format!(
                "repair/ holds new files of a repair that was stopped before it changed anything: \
                 {size}. The next opening or repair deletes them"
            ),
        },
        unfinished,
        format!("ls -l {}", quoted(&repair)),
    );
    note(
        &|size| {
            format!(
                "the numbered directories in repair/ hold what earlier repairs, salvages or \
                 imports have left, original files and lists of missing ids: {size}. Only \
                 `verify` reads a list, so that it does not report these ids again; delete them \
                 when nobody needs them any more"
            )
        },
        kept,
        format!("ls -lR {}", quoted(&repair)),
    );
    answers
}

/// The files and bytes directly in `repair/`, and those in its directories.
fn size_in_repair(repair: &Path) -> ((u64, u64), (u64, u64)) {
    let (mut direct, mut below) = ((0, 0), (0, 0));
    for entry in fs::read_dir(repair).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let (total, (files, len)) = match metadata.is_dir() {
            true => (&mut below, size_below(&entry.path(), &mut BTreeSet::new())),
            false => (&mut direct, (1, metadata.len())),
        };
        total.0 += files;
        total.1 += len;
    }
    (direct, below)
}

/// The files below a directory, and their bytes. Links are not followed.
fn size_below(path: &Path, seen: &mut BTreeSet<PathBuf>) -> (u64, u64) {
    let mut total = (0, 0);
    if !seen.insert(path.to_owned()) {
        return total;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let (files, len) = match metadata.is_dir() {
            true => size_below(&entry.path(), seen),
            false => (1, metadata.len()),
        };
        total.0 += files;
        total.1 += len;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Verdict;

    #[test]
    fn a_device_that_syncs_too_fast_or_too_slowly_is_noted() {
        for (micros, verdict, says) in [
            (20, Verdict::Note, "survives power cuts"),
            (4_000, Verdict::Ok, "takes 4.0ms"),
            (400_000, Verdict::Note, "slow, busy or failing"),
        ] {
            let answer = of_sync_time(Duration::from_micros(micros), "measure".to_owned());
            assert_eq!(answer.verdict, verdict);
            assert!(answer.says.contains(says), "{answer:?}");
        }
    }

    #[test]
    fn file_systems_with_weak_syncs_are_named() {
        for (kind, options, verdict, says) in [
            ("ext4", "rw,relatime", Verdict::Ok, "ext4 at /mnt"),
            ("ext4", "rw,nobarrier", Verdict::Problem, "without barriers"),
            ("ext4", "ro,relatime", Verdict::Problem, "read-only"),
            ("tmpfs", "rw", Verdict::Problem, "in memory"),
            ("overlay", "rw,volatile", Verdict::Problem, "ignores syncs"),
            ("overlay", "rw", Verdict::Note, "gone with the container"),
            ("nfs4", "rw,vers=4.2", Verdict::Note, "another machine"),
            ("fuse.sshfs", "rw", Verdict::Note, "FUSE"),
        ] {
            let mount = Mount {
                point: "/mnt".into(),
                kind: kind.to_owned(),
                options: options.split(',').map(str::to_owned).collect(),
            };
            let answers = of_mount(&mount, "findmnt");
            let worst = answers.iter().max_by_key(|answer| answer.verdict).unwrap();
            assert_eq!(worst.verdict, verdict, "{kind} {options}");
            assert!(worst.says.contains(says), "{worst:?}");
        }
    }
}
