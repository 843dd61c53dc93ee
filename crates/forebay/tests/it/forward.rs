//! For storages that wrap another one: forwards the calls that they do not change.

/// Within an `impl Storage` or an `impl File`: forwards these calls to a field.
///
/// ```ignore
/// forward!(inner: create_dir list rename);
/// ```
macro_rules! forward {
    ($to:tt: $($call:ident)+) => { $(forward!(@$call $to);)+ };

    (@create_dir $to:tt) => { forward!(@fn $to create_dir(dir: &std::path::Path)); };
    (@list $to:tt) => {
        forward!(@fn $to list(dir: &std::path::Path) -> Vec<forebay::storage::Entry>);
    };
    (@rename $to:tt) => {
        forward!(@fn $to rename(from: &std::path::Path, to: &std::path::Path));
    };
    (@delete $to:tt) => { forward!(@fn $to delete(path: &std::path::Path)); };
    (@sync_dir $to:tt) => { forward!(@fn $to sync_dir(dir: &std::path::Path)); };
    (@lock $to:tt) => {
        forward!(@fn $to lock(path: &std::path::Path) -> Box<dyn forebay::storage::Lock>);
    };
    (@map $to:tt) => {
        forward!(@fn $to map(path: &std::path::Path) -> Box<dyn forebay::storage::Map>);
    };
    (@free_bytes $to:tt) => {
        forward!(@fn $to free_bytes(dir: &std::path::Path) -> Option<u64>);
    };

    (@read_at $to:tt) => { forward!(@fn $to read_at(buf: &mut [u8], offset: u64) -> usize); };
    (@write_at $to:tt) => { forward!(@fn $to write_at(buf: &[u8], offset: u64) -> usize); };
    (@len $to:tt) => { forward!(@fn $to len() -> u64); };
    (@sync $to:tt) => { forward!(@fn $to sync()); };
    (@truncate $to:tt) => { forward!(@fn $to truncate(len: u64)); };

    (@fn $to:tt $call:ident($($arg:ident: $type:ty),*)) => {
        forward!(@fn $to $call($($arg: $type),*) -> ());
    };
    (@fn $to:tt $call:ident($($arg:ident: $type:ty),*) -> $result:ty) => {
        fn $call(&self, $($arg: $type),*) -> std::io::Result<$result> {
            self.$to.$call($($arg),*)
        }
    };
}
