//! For storages that are another one with a difference: the calls that make none.

/// Within an `impl Storage` or an `impl File`: these calls go on to a field.
///
/// ```ignore
/// forward!(inner: create_dir list rename);
/// ```
macro_rules! forward {
    ($inner:tt: $($call:ident)+) => { $(forward!(@$call $inner);)+ };

    (@create_dir $inner:tt) => {
        fn create_dir(&self, dir: &std::path::Path) -> std::io::Result<()> {
            self.$inner.create_dir(dir)
        }
    };
    (@list $inner:tt) => {
        fn list(&self, dir: &std::path::Path) -> std::io::Result<Vec<forebay::storage::Entry>> {
            self.$inner.list(dir)
        }
    };
    (@rename $inner:tt) => {
        fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
            self.$inner.rename(from, to)
        }
    };
    (@delete $inner:tt) => {
        fn delete(&self, path: &std::path::Path) -> std::io::Result<()> {
            self.$inner.delete(path)
        }
    };
    (@sync_dir $inner:tt) => {
        fn sync_dir(&self, dir: &std::path::Path) -> std::io::Result<()> {
            self.$inner.sync_dir(dir)
        }
    };
    (@lock $inner:tt) => {
        fn lock(
            &self,
            path: &std::path::Path,
        ) -> std::io::Result<Box<dyn forebay::storage::Lock>> {
            self.$inner.lock(path)
        }
    };
    (@map $inner:tt) => {
        fn map(
            &self,
            path: &std::path::Path,
        ) -> std::io::Result<Box<dyn forebay::storage::Map>> {
            self.$inner.map(path)
        }
    };
    (@free_bytes $inner:tt) => {
        fn free_bytes(&self, dir: &std::path::Path) -> std::io::Result<Option<u64>> {
            self.$inner.free_bytes(dir)
        }
    };

    (@read_at $inner:tt) => {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
            self.$inner.read_at(buf, offset)
        }
    };
    (@write_at $inner:tt) => {
        fn write_at(&self, buf: &[u8], offset: u64) -> std::io::Result<usize> {
            self.$inner.write_at(buf, offset)
        }
    };
    (@len $inner:tt) => {
        fn len(&self) -> std::io::Result<u64> {
            self.$inner.len()
        }
    };
    (@sync $inner:tt) => {
        fn sync(&self) -> std::io::Result<()> {
            self.$inner.sync()
        }
    };
    (@truncate $inner:tt) => {
        fn truncate(&self, len: u64) -> std::io::Result<()> {
            self.$inner.truncate(len)
        }
    };
}
