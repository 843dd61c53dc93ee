//! A storage in which something happens just before a file is opened: what was
//! looked up a moment ago may be elsewhere by then.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use forebay::storage::{Access, Entry, File, Lock, Map, Storage};

/// Any storage, and what happens.
pub(crate) struct BeforeOpen<F> {
    inner: Arc<dyn Storage>,
    happens: F,
}

impl<F: Fn(&Path, Access) + Send + Sync> BeforeOpen<F> {
    pub(crate) fn new(inner: impl Storage + 'static, happens: F) -> Self {
        let inner = Arc::new(inner);
        Self { inner, happens }
    }
}

impl<F> fmt::Debug for BeforeOpen<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BeforeOpen").field(&self.inner).finish()
    }
}

impl<F: Fn(&Path, Access) + Send + Sync> Storage for BeforeOpen<F> {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        (self.happens)(path, access);
        self.inner.open(path, access)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        self.inner.delete(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        self.inner.map(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.inner.free_bytes(dir)
    }
}
