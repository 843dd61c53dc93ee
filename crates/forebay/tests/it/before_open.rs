//! A storage that calls a closure just before a file is opened, so that a test can move the
//! file that was looked up a moment ago.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use forebay::storage::{Access, File, Storage};

/// Any storage, and the closure that it calls.
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

    forward!(inner: create_dir list rename delete sync_dir lock map free_bytes);
}
