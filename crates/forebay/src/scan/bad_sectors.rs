//! Reading a file some of whose sectors cannot be read.
//!
//! Invariants:
//! - A page becomes zeros only after it could not be read several times: the error may pass.
//! - It becomes zeros only if another page of the same read can be read. Otherwise the error is
//!   returned, and nothing counts as damage: a disk that is gone may come back.

use std::io;

use crate::storage::{File, read_full};

/// What a page cache reads at a time; no disk has larger sectors.
const PAGE_LEN: usize = 4096;

/// How often a page is read before it counts as unreadable.
const PAGE_READS: u32 = 8;

/// Reads as [`read_full`] does. If the device reports an error, it reads again, page by
/// page, and zeros the pages that cannot be read. The scanner reports those zeros as damage
/// and returns the records around them.
pub(super) fn read_around(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let (read, unreadable) = read_pages(file, buf, offset)?;
    match unreadable {
        Some(error) if read.good_pages == 0 => Err(error),
        _ => Ok(read.len),
    }
}

/// As [`read_around`], but never fails with a device's error: for a few bytes of a part of
/// the file of which other bytes were readable.
pub(super) fn read_or_zeros(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    read_pages(file, buf, offset).map(|(read, _)| read.len)
}

struct PagesRead {
    len: usize,
    good_pages: usize,
}

/// Reads what can be read; returns the device's error as well if it zeroed pages.
fn read_pages(
    file: &dyn File,
    buf: &mut [u8],
    offset: u64,
) -> io::Result<(PagesRead, Option<io::Error>)> {
    let error = match read_full(file, buf, offset) {
        Err(e) if is_device_error(&e) => e,
        result => return result.map(|len| (PagesRead { len, good_pages: 1 }, None)),
    };
    let (mut done, mut bad_pages, mut good_pages) = (0, 0, 0);
    while done < buf.len() {
        let at = offset + done as u64;
        // Pages are aligned to the start of the file.
        let page_left = PAGE_LEN - (at % PAGE_LEN as u64) as usize;
        let end = buf.len().min(done + page_left);
        let page = &mut buf[done..end];
        match read_page(file, page, at) {
            Ok(n) if n < page.len() => {
                done += n;
                break;
            }
            Ok(_) => good_pages += 1,
            Err(e) if is_device_error(&e) => {
                page.fill(0);
                bad_pages += 1;
            }
            Err(e) => return Err(e),
        }
        done = end;
    }
    let read = PagesRead {
        len: done,
        good_pages,
    };
    if bad_pages == 0 {
        return Ok((read, None));
    }
    tracing::warn!(error = %format_args!("{error:#}"), offset, bad_pages, "unreadable pages are read as zeros");
    Ok((read, Some(error)))
}

/// Reads a page, again if the device reports an error.
fn read_page(file: &dyn File, page: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = read_full(file, page, at);
    for _ in 1..PAGE_READS {
        match &read {
            Err(e) if is_device_error(e) => read = read_full(file, page, at),
            _ => break,
        }
    }
    read
}

/// Whether the device failed to read a part of the file; other parts may be readable.
pub(crate) fn is_device_error(e: &io::Error) -> bool {
    // EIO; on Windows ERROR_CRC (a bad sector) and ERROR_IO_DEVICE.
    const CODES: &[i32] = if cfg!(windows) { &[23, 1117] } else { &[5] };
    e.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;
    use crate::storage::fault::Errno;

    /// 16 KiB of ones; reading a page in `bad` fails, and the first `failing` reads do.
    #[derive(Debug)]
    struct Disk {
        bad: Vec<u64>,
        failing: AtomicU32,
    }

    fn disk(bad: &[u64], failing: u32) -> Disk {
        Disk {
            bad: bad.to_vec(),
            failing: failing.into(),
        }
    }

    impl File for Disk {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let end = (offset + buf.len() as u64).min(16384);
            let touched = offset / 4096..end.div_ceil(4096);
            let fails = |left: u32| left.checked_sub(1);
            if self.failing.fetch_update(Relaxed, Relaxed, fails).is_ok() {
                return Err(Errno::Eio.error());
            }
            if self.bad.iter().any(|page| touched.contains(page)) {
                return Err(Errno::Eio.error());
            }
            let len = end.saturating_sub(offset) as usize;
            buf[..len].fill(1);
            Ok(len)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            unreachable!("reading writes nothing")
        }

        fn len(&self) -> io::Result<u64> {
            Ok(16384)
        }

        fn sync(&self) -> io::Result<()> {
            unreachable!("reading syncs nothing")
        }

        fn truncate(&self, _: u64) -> io::Result<()> {
            unreachable!("reading cuts nothing")
        }
    }

    #[test]
    fn only_the_unreadable_page_becomes_zeros() {
        let mut buf = vec![9; 20000];
        let read = read_around(&disk(&[2], 0), &mut buf, 100).unwrap();
        assert_eq!(read, 16284);
        let zeros = 8192 - 100..12288 - 100;
        for (i, byte) in buf[..read].iter().enumerate() {
            assert_eq!(*byte, u8::from(!zeros.contains(&i)), "at {i}");
        }
    }

    #[test]
    fn a_disk_that_reads_nothing_is_an_error() {
        let mut buf = vec![0; 8192];
        let disk = disk(&[0, 1, 2, 3], 0);
        assert!(read_around(&disk, &mut buf, 0).is_err());
    }

    /// Regression: a page was zeros after one error in a read of its own, and an opening took a
    /// file that could not be read for a moment for an empty one.
    #[test]
    fn a_page_whose_error_passes_is_read() {
        for failing in 0..=PAGE_READS {
            let mut buf = vec![9; 16384];
            let read = read_around(&disk(&[], failing), &mut buf, 0).unwrap();
            assert_eq!((read, buf), (16384, vec![1; 16384]), "{failing}");
        }
    }
}
