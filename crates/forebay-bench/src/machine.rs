//! Describes the machine, as far as it matters to speed.

use serde::Serialize;
use std::fs;
use std::path::Path;

/// The machine; what the system does not tell is absent.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The model of the processor.
    pub cpu: Option<String>,
    /// Processors that this process may use.
    pub cores: usize,
    /// All memory.
    pub memory_bytes: Option<u64>,
    /// The operating system, with its version where that is known.
    pub os: String,
    /// The processor's architecture.
    pub arch: &'static str,
    /// The type of the file system that was measured.
    pub file_system: Option<String>,
}

impl Machine {
    /// This machine, with the file system of `dir`.
    pub fn this(dir: &Path) -> Self {
        let info = |path, key| {
            let text = fs::read_to_string(path).ok()?;
            field(&text, key)
        };
        let kib = info("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        let os = std::env::consts::OS;
        Self {
            cpu: info("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.map(|kib| kib << 10),
            os: kernel.map_or_else(|| os.to_owned(), |kernel| format!("{os} {}", kernel.trim())),
            arch: std::env::consts::ARCH,
            file_system: file_system(dir),
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        let mut parts = vec![
            self.cpu.clone().unwrap_or_else(|| self.arch.to_owned()),
            match self.cores {
                1 => "1 core".to_owned(),
                n => format!("{n} cores"),
            },
        ];
        if let Some(bytes) = self.memory_bytes {
            parts.push(format!("{:.0} GiB memory", bytes as f64 / (1 << 30) as f64));
        }
        parts.extend(self.file_system.clone());
        parts.push(self.os.clone());
        parts.join(", ")
    }
}

/// The value of the first line `key : value`.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// A field of `/proc/self/status` that is given in KiB, in bytes.
pub(crate) fn status_bytes(key: &str) -> Option<u64> {
    let kib = field(&fs::read_to_string("/proc/self/status").ok()?, key)?;
    Some(kib.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// The number of threads of this process.
pub(crate) fn threads() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "Threads")?
        .parse()
        .ok()
}

/// The type of the file system that holds `dir`.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    type_at(&mounts, &dir)
}

/// The file system type of the longest mount point that holds `dir`. Of several equal ones
/// the last wins, because it is mounted over the others.
fn type_at(mounts: &str, dir: &Path) -> Option<String> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        // Spaces and the like are written in octal; such mount points are rare and
        // are not recognized.
        dir.starts_with(point).then_some((point.len(), kind))
    });
    let (_, kind) = mounted.max_by_key(|(len, _)| *len)?;
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_tells_the_file_system() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp2 xfs rw 0 0\n";
        let at = |dir| type_at(mounts, Path::new(dir)).unwrap();
        assert_eq!(at("/tmp/x"), "tmpfs");
        assert_eq!(at("/tmp2"), "xfs");
        assert_eq!(at("/tmp3"), "ext4");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "VmHWM2:\t1 kB\nVmHWM:\t  2 kB\n";
        assert_eq!(field(text, "VmHWM").as_deref(), Some("2 kB"));
        assert_eq!(field(text, "Vm"), None);
    }
}
