//! A page that the device cannot read. Outside Unix the library does not tell this error
//! from others.

use super::*;
use crate::storage::{Entry, File, Lock, Map};

/// A disk that cannot read one page of one file.
#[derive(Debug)]
struct BadPage {
    sim: Sim,
    name: String,
    page: u64,
}

#[derive(Debug)]
struct BadPageFile {
    file: Box<dyn File>,
    page: u64,
}

impl File for BadPageFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = (offset + buf.len() as u64).min(self.file.len()?);
        let touched = offset / 4096..end.div_ceil(4096);
        if touched.contains(&self.page) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

impl Storage for BadPage {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = self.sim.open(path, access)?;
        if path.ends_with(&self.name) {
            let page = self.page;
            return Ok(Box::new(BadPageFile { file, page }));
        }
        Ok(file)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.sim.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(from, to)
    }
    fn delete(&self, path: &Path) -> io::Result<()> {
        self.sim.delete(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.sim.lock(path)
    }
    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        self.sim.map(path)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.sim.free_bytes(dir)
    }
}

/// An unreadable page looks like zeros; together with those behind it, like a
/// tail that a crash left. It may be readable tomorrow.
#[test]
fn what_cannot_be_read_is_not_cut() {
    for (page, ledger_next) in [(3, 257), (3, 1), (1, 257), (0, 257), (0, 1)] {
        let setting = Setting::new().file(0, 256).ledger(ledger_next, 0);
        if page == 3 {
            setting.change("buffer-data-0.dat", |bytes| bytes.resize(6 * 4096, 0));
        }
        let before = data_files(&setting.sim);
        let storage: Arc<dyn Storage> = Arc::new(BadPage {
            sim: setting.sim.clone(),
            name: "buffer-data-0.dat".to_owned(),
            page,
        });
        let recovered = recover(&storage, Path::new(DIR), &OPTIONS).unwrap();
        assert_eq!(data_files(&setting.sim), before, "page {page}");
        assert_eq!(recovered.writer.is_none(), page == 3);
        let next_id = if page == 3 { ledger_next.max(193) } else { 257 };
        assert_eq!(recovered.next_id, next_id);
    }
}
