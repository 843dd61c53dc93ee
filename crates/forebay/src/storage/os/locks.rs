//! Which process holds a lock on a file, read from `/proc` without touching the file.
//!
//! `/proc/locks` names a file by the device of its file system and its inode number *inside the
//! kernel*. `stat` shows other numbers on some file systems (btrfs subvolumes, overlays). So the
//! file is looked up under both: what `stat` says, and what `/proc/self/fdinfo` and
//! `/proc/self/mountinfo` say.
//!
//! The list leaves out the locks of processes in other containers. So from inside a container it
//! can prove that a lock is held, but never that none is.
//!
//! A read of `/proc/locks` gives one page of the list as it is at that moment, and the next read
//! continues by number. If an earlier lock goes away in between, a lock that is held all the time
//! is skipped. So the list is read a page at a time, and a list of several pages is read several
//! times before a lock is said not to be there.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::storage::uninterrupted;

/// More than the kernel gives at a time, which is a page.
const READ_LEN: usize = 64 << 10;
/// A list of several pages is read this many times.
const LOOKS: usize = 16;

/// A file as `/proc/locks` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileKey {
    major: u32,
    minor: u32,
    inode: u64,
}

/// The locks that are held on one file, as far as this process may see them.
#[derive(Debug)]
pub(super) struct Locks {
    /// The process id of each holder, if the kernel gives it.
    holders: Vec<Option<u32>>,
    complete: bool,
}

impl Locks {
    /// Looks the file up.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let stat = fs::metadata(path)?;
        let mut keys = vec![FileKey {
            major: rustix::fs::major(stat.dev()),
            minor: rustix::fs::minor(stat.dev()),
            inode: stat.ino(),
        }];
        keys.extend(kernel_key(path));
        let mut holders = Vec::new();
        for _ in 0..LOOKS {
            let (table, is_of_one_moment) = read_table()?;
            holders = table
                .lines()
                .filter_map(parse_lock)
                .filter(|(key, _)| keys.contains(key))
                .map(|(_, holder)| holder)
                .collect();
            if is_of_one_moment || !holders.is_empty() {
                break;
            }
        }
        Ok(Self {
            holders,
            complete: sees_all_processes(),
        })
    }

    /// Whether a lock is certainly held.
    pub(super) fn held(&self) -> bool {
        !self.holders.is_empty()
    }

    /// Whether the system leaves no lock out of the list.
    pub(super) fn complete(&self) -> bool {
        self.complete
    }

    /// The first holder whose process id is known.
    pub(super) fn holder(&self) -> Option<u32> {
        self.holders.iter().find_map(|&holder| holder)
    }
}

/// The list of locks, and whether one read gave all of it.
fn read_table() -> io::Result<(String, bool)> {
    let mut file = fs::File::open("/proc/locks")?;
    let mut table = Vec::new();
    let mut block = vec![0; READ_LEN];
    let mut reads = 0;
    loop {
        match uninterrupted(|| file.read(&mut block))? {
            0 => break,
            len => table.extend_from_slice(&block[..len]),
        }
        reads += 1;
    }
    Ok((String::from_utf8_lossy(&table).into_owned(), reads <= 1))
}

/// Whether this process is in the machine's first process namespace, which sees
/// the processes of all others. Its number is fixed in the kernel's interface.
fn sees_all_processes() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name.as_os_str() == "pid:[4026531836]")
}

/// The file's key as the kernel has it, where `/proc` shows it.
fn kernel_key(path: &Path) -> Option<FileKey> {
    let file = super::open_regular(path, fs::OpenOptions::new().read(true)).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let field = |name| {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let (mount, inode) = (field("mnt_id:")?, field("ino:")?);
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (major, minor) = mounts
        .lines()
        .find_map(|line| parse_mount(line).filter(|&(id, _)| id == mount))?
        .1;
    Some(FileKey {
        major,
        minor,
        inode,
    })
}

/// Parses one line of `/proc/locks`, as in
/// `5: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF` (device in hexadecimal).
/// `None` for anything else, and for one that waits for a lock (`5: -> FLOCK`).
fn parse_lock(line: &str) -> Option<(FileKey, Option<u32>)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (kind, _advisory, access) = (words.next()?, words.next()?, words.next()?);
    if !matches!(kind, "FLOCK" | "POSIX" | "OFDLCK") || access != "WRITE" {
        return None;
    }
    // Locks of an open file description have the process id -1.
    let holder = words.next()?.parse().ok().filter(|&pid| pid != 0);
    let mut file = words.next()?.split(':');
    let key = FileKey {
        major: u32::from_str_radix(file.next()?, 16).ok()?,
        minor: u32::from_str_radix(file.next()?, 16).ok()?,
        inode: file.next()?.parse().ok()?,
    };
    Some((key, holder))
}

/// Parses the mount id and the device (decimal) of a line of
/// `/proc/self/mountinfo`, as in `36 35 98:0 /mnt1 /mnt2 rw - ext3 /dev/root rw`.
fn parse_mount(line: &str) -> Option<(u64, (u32, u32))> {
    let mut words = line.split_ascii_whitespace();
    let id = words.next()?.parse().ok()?;
    let (major, minor) = words.nth(1)?.split_once(':')?;
    Some((id, (major.parse().ok()?, minor.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_lines_are_parsed() {
        let key = FileKey {
            major: 0xfe,
            minor: 0x1a,
            inode: 131,
        };
        let holder = |line| parse_lock(line).map(|(found, pid)| (found == key, pid));
        assert_eq!(
            holder("5: FLOCK  ADVISORY  WRITE 4242 fe:1a:131 0 EOF"),
            Some((true, Some(4242)))
        );
        assert_eq!(
            holder("5: POSIX  ADVISORY  WRITE 0 fe:1a:131 0 EOF"),
            Some((true, None))
        );
        assert_eq!(
            holder("6: OFDLCK ADVISORY  WRITE -1 fe:1a:131 0 EOF"),
            Some((true, None))
        );
        assert_eq!(
            holder("5: FLOCK  ADVISORY  WRITE 4242 fe:1a:132 0 EOF"),
            Some((false, Some(4242)))
        );
        for other in [
            "",
            "5:",
            "5: -> FLOCK  ADVISORY  WRITE 4242 fe:1a:131 0 EOF",
            "5: FLOCK  ADVISORY  READ 4242 fe:1a:131 0 EOF",
            "5: LEASE  ACTIVE    WRITE 4242 fe:1a:131 0 EOF",
            "5: FLOCK  ADVISORY  WRITE 4242 fe:1a 0 EOF",
            "5: FLOCK  ADVISORY  WRITE 4242 <none>:0 0 EOF",
        ] {
            assert_eq!(holder(other), None, "{other}");
        }
    }

    #[test]
    fn mount_lines_are_parsed() {
        assert_eq!(
            parse_mount("36 35 98:10 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw"),
            Some((36, (98, 10)))
        );
        assert_eq!(parse_mount("36 35"), None);
        assert_eq!(parse_mount("a 35 98:10 /"), None);
    }

    #[test]
    fn a_file_is_found_under_the_key_of_the_kernel() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stat = file.as_file().metadata().unwrap();
        // Not every kernel shows the inode number in `fdinfo`.
        if let Some(key) = kernel_key(file.path()) {
            let same_file_system = key.major == rustix::fs::major(stat.dev())
                && key.minor == rustix::fs::minor(stat.dev());
            assert!(!same_file_system || key.inode == stat.ino());
        }
    }
}
