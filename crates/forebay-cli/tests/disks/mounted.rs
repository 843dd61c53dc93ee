//! File systems made in a file and mounted over a loop device.
//!
//! Invariant: dropping a [`Mounted`] unmounts its file system, also in a test that fails.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts the file system in `image` at `at`; unmounting also frees the loop device.
    pub(crate) fn new(image: &Path, at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        must(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(image)
                .arg(at),
        );
        Self(at.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            // A process still has a file open. A lazy unmount at least lets no file be
            // opened from now on.
            let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        }
    }
}

/// Makes a file system in a file, with the command in `FOREBAY_MKFS` or else as ext4.
pub(crate) fn make(image: &Path) {
    let mkfs = std::env::var("FOREBAY_MKFS").unwrap_or_else(|_| "mkfs.ext4 -q -F".to_owned());
    let mut words = mkfs.split_whitespace();
    let mut command = Command::new(words.next().expect("FOREBAY_MKFS names a command"));
    must(command.args(words).arg(image));
}

/// Runs a command that has to succeed.
fn must(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Whether file systems can be made and mounted here, with read and write access to the
/// devices in `also`; prints the reason if not.
pub(crate) fn is_possible(also: &[&str]) -> bool {
    let missing = missing(also);
    if let Some(missing) = &missing {
        eprintln!("SKIPPED: {missing}");
    }
    missing.is_none()
}

fn missing(also: &[&str]) -> Option<String> {
    let uid = Command::new("id").arg("-u").output().ok()?.stdout;
    if uid.trim_ascii() != b"0" {
        return Some("mounting a file system needs root".to_owned());
    }
    let devices = ["/dev/loop-control"].iter().chain(also);
    for device in devices {
        if std::fs::File::options()
            .read(true)
            .write(true)
            .open(device)
            .is_err()
        {
            return Some(format!("this machine gives no {device}"));
        }
    }
    for tool in ["mkfs.ext4", "mount", "umount"] {
        if Command::new(tool).arg("-V").output().is_err() {
            return Some(format!("{tool} is not installed"));
        }
    }
    // A container may have the devices and still forbid mounting.
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(4 << 20).unwrap();
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&image)
        .output();
    let mounted = Command::new("mount")
        .args(["-o", "loop"])
        .arg(&image)
        .arg(dir.path())
        .output();
    match mounted {
        Ok(output) if output.status.success() => {
            drop(Mounted(dir.path().to_owned()));
            None
        }
        mounted => Some(format!(
            "mounting does not work here: {made:?}, {mounted:?}"
        )),
    }
}
