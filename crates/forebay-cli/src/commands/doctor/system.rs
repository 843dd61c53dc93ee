//! What the operating system tells about a directory and a process.
//!
//! Invariants: what it does not tell is `None`; nothing stays behind.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    /// Its type, such as `ext4`.
    pub(super) kind: String,
    /// The options of the mount and of the file system.
    pub(super) options: Vec<String>,
}

impl Mount {
    /// The file system that a directory is on.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        let directory = directory.canonicalize().ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::in_list(&mounts, &directory)
    }

    /// The one with the longest mount point, and of equal ones the last, which covers the others.
    fn in_list(mounts: &str, directory: &Path) -> Option<Self> {
        let mounts = mounts.lines().filter_map(Self::parse);
        let holding = mounts.filter(|mount| directory.starts_with(&mount.point));
        holding.max_by_key(|mount| mount.point.components().count())
    }

    /// Parses a line of `/proc/self/mountinfo`, as in
    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
    fn parse(line: &str) -> Option<Self> {
        let (of_mount, of_system) = line.split_once(" - ")?;
        let mut words = of_mount.split(' ').skip(4);
        let point = unescape(words.next()?);
        let options = words.next()?;
        let mut words = of_system.split(' ');
        let kind = words.next()?.to_owned();
        let of_system = words.nth(1).unwrap_or_default();
        let options = options.split(',').chain(of_system.split(','));
        Some(Self {
            point: PathBuf::from(point),
            kind,
            options: options.map(str::to_owned).collect(),
        })
    }
}

/// A path in which the kernel writes a space as `\040`.
fn unescape(text: &str) -> OsString {
    let mut unescaped = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        unescaped.push_str(before);
        let code = after
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                unescaped.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                unescaped.push('\\');
                rest = after;
            }
        }
    }
    unescaped.push_str(rest);
    unescaped.into()
}

/// How many descriptors a process has open, and at most may have.
pub(super) fn descriptors(pid: u32) -> Option<(u64, u64)> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    Some((open, line.split_whitespace().next()?.parse().ok()?))
}

/// How many more files the file system can hold; `None` also where it has no such limit.
#[cfg(unix)]
pub(super) fn free_inodes(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    (stat.f_files > 0).then_some(stat.f_favail)
}

#[cfg(not(unix))]
pub(super) fn free_inodes(_directory: &Path) -> Option<u64> {
    None
}

/// The user that a file belongs to.
#[cfg(unix)]
pub(super) fn owner(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Some(fs::metadata(path).ok()?.uid())
}

#[cfg(not(unix))]
pub(super) fn owner(_path: &Path) -> Option<u32> {
    None
}

/// Whether the mode of a file lets its owner read it.
#[cfg(unix)]
pub(super) fn owner_may_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o400 != 0)
}

#[cfg(not(unix))]
pub(super) fn owner_may_read(_path: &Path) -> bool {
    true
}

/// Whether this user may write to a file or a directory.
#[cfg(unix)]
pub(super) fn may_write(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(path, Access::WRITE_OK).is_ok()
}

#[cfg(not(unix))]
pub(super) fn may_write(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.permissions().readonly())
}

/// How long a sync of 4 KiB that were appended takes: the median of up to 32, within a second.
/// They go to a file without a name. `None` where none can be made.
#[cfg(target_os = "linux")]
pub(super) fn sync_time(directory: &Path) -> Option<Duration> {
    use rustix::fs::{Mode, OFlags, open};
    use std::io::Write as _;
    use std::time::Instant;

    const SYNCS: usize = 32;
    const LIMIT: Duration = Duration::from_secs(1);
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = open(directory, flags, Mode::RUSR | Mode::WUSR).ok()?;
    let mut file = fs::File::from(file);
    let begun = Instant::now();
    let mut took = Vec::new();
    while took.len() < SYNCS && begun.elapsed() < LIMIT {
        file.write_all(&[0xa5; 4096]).ok()?;
        let before = Instant::now();
        file.sync_data().ok()?;
        took.push(before.elapsed());
    }
    took.sort_unstable();
    took.get(took.len() / 2).copied()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn sync_time(_directory: &Path) -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
36 35 98:0 / / rw,noatime master:1 - ext4 /dev/root rw,errors=remount-ro
37 36 0:5 / /var/lib/a\\040b rw shared:2 - xfs /dev/sdb rw,nobarrier
38 36 0:6 / /var/lib ro - tmpfs tmpfs rw,size=1024k
39 36 0:7 / /var/lib rw - btrfs /dev/sdc rw
broken
";

    #[test]
    fn the_longest_mount_point_holds_a_directory() {
        for (directory, kind, option) in [
            ("/home", "ext4", "errors=remount-ro"),
            ("/var/lib/a b/c", "xfs", "nobarrier"),
            // A later mount covers an earlier one at the same place.
            ("/var/lib/a", "btrfs", "rw"),
            ("/var/library", "ext4", "noatime"),
        ] {
            let mount = Mount::in_list(MOUNTS, Path::new(directory)).unwrap();
            assert_eq!(mount.kind, kind, "{directory}");
            assert!(mount.options.iter().any(|has| has == option), "{mount:?}");
        }
        assert_eq!(Mount::in_list("", Path::new("/")), None);
    }

    #[test]
    fn escapes_of_the_kernel_are_undone() {
        for (text, path) in [
            ("/a", "/a"),
            (r"/a\040b\134", r"/a b\"),
            (r"\", r"\"),
            (r"/\9", r"/\9"),
        ] {
            assert_eq!(unescape(text), path);
        }
    }
}
