//! What is kept, under which names, and within which bound.

use super::*;
use crate::storage::os::Os;

const NAME: &str = "buffer-data-3.dat";

struct Setting {
    dir: tempfile::TempDir,
    contents: Vec<u8>,
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let contents: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(dir.path().join(NAME), &contents).unwrap();
        Self { dir, contents }
    }

    fn quarantine(&self, policy: OnCorruption, bound: u64) -> Quarantine {
        Quarantine::new(Arc::new(Os), self.dir.path(), policy, bound)
    }

    fn keep(&self, quarantine: &Quarantine, offset: u64, len: u64) {
        let file = Os.open(&self.dir.path().join(NAME), Access::Read).unwrap();
        quarantine.keep_span(&*file, NAME, offset, len, "checksum", 1);
    }

    fn names(&self) -> Vec<String> {
        match Os.list(&self.dir.path().join(QUARANTINE_DIR_NAME)) {
            Ok(entries) => entries
                .into_iter()
                .map(|entry| entry.name.into_string().unwrap())
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(QUARANTINE_DIR_NAME).join(name)).unwrap()
    }
}

#[test]
fn a_span_is_kept_with_a_report() {
    let setting = Setting::new();
    let quarantine = setting.quarantine(OnCorruption::Quarantine, 1 << 20);
    setting.keep(&quarantine, 8, 70_000);
    assert_eq!(
        setting.names(),
        [
            "buffer-data-3.dat.8-70000.bytes",
            "buffer-data-3.dat.8-70000.json"
        ]
    );
    assert_eq!(
        setting.read("buffer-data-3.dat.8-70000.bytes"),
        setting.contents[8..70_008]
    );
    let report: serde_json::Value =
        serde_json::from_slice(&setting.read("buffer-data-3.dat.8-70000.json")).unwrap();
    assert_eq!(
        report,
        serde_json::json!({
            "file": NAME, "offset": 8, "length": 70_000, "kind": "checksum",
            "events_lost": 1, "kept_as": "buffer-data-3.dat.8-70000.bytes",
        })
    );
}

#[test]
fn the_same_span_is_kept_once_also_by_a_later_quarantine() {
    let setting = Setting::new();
    let quarantine = setting.quarantine(OnCorruption::Quarantine, 1 << 20);
    setting.keep(&quarantine, 8, 16);
    setting.keep(&quarantine, 8, 16);
    let later = setting.quarantine(OnCorruption::Quarantine, 1 << 20);
    setting.keep(&later, 8, 16);
    assert_eq!(setting.names().len(), 2);
}

#[test]
fn another_content_at_the_same_place_is_kept_beside() {
    let mut setting = Setting::new();
    let quarantine = setting.quarantine(OnCorruption::Quarantine, 1 << 20);
    setting.keep(&quarantine, 8, 16);
    setting.contents[9] ^= 1;
    std::fs::write(setting.dir.path().join(NAME), &setting.contents).unwrap();
    setting.keep(&quarantine, 8, 16);
    setting.keep(&quarantine, 8, 16);
    assert_eq!(setting.names().len(), 4);
    assert_eq!(
        setting.read("buffer-data-3.dat.8-16.1.bytes"),
        setting.contents[8..24]
    );
}

#[test]
fn bytes_without_a_report_are_replaced() {
    let setting = Setting::new();
    let dir = setting.dir.path().join(QUARANTINE_DIR_NAME);
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("buffer-data-3.dat.8-16.bytes"), [1; 100]).unwrap();
    let quarantine = setting.quarantine(OnCorruption::Quarantine, 100);
    setting.keep(&quarantine, 8, 16);
    assert_eq!(
        setting.read("buffer-data-3.dat.8-16.bytes"),
        setting.contents[8..24]
    );
}

#[test]
fn beyond_the_bound_only_reports_are_written() {
    let setting = Setting::new();
    let quarantine = setting.quarantine(OnCorruption::Quarantine, 100);
    setting.keep(&quarantine, 0, 60);
    setting.keep(&quarantine, 60, 60);
    setting.keep(&quarantine, 120, 40);
    setting.keep(&quarantine, 160, 1);
    assert_eq!(
        setting.names(),
        [
            "buffer-data-3.dat.0-60.bytes",
            "buffer-data-3.dat.0-60.json",
            "buffer-data-3.dat.120-40.bytes",
            "buffer-data-3.dat.120-40.json",
            "buffer-data-3.dat.160-1.json",
            "buffer-data-3.dat.60-60.json",
        ]
    );
}

#[test]
fn the_number_of_reports_is_bounded() {
    let setting = Setting::new();
    let quarantine = setting.quarantine(OnCorruption::Quarantine, 0);
    for offset in 0..MAX_REPORTS as u64 + 10 {
        setting.keep(&quarantine, offset, 1);
    }
    assert_eq!(setting.names().len(), MAX_REPORTS);
}

#[test]
fn a_file_is_moved_within_the_bound() {
    let setting = Setting::new();
    let small = setting.quarantine(OnCorruption::Quarantine, 99_999);
    assert!(!small.keep_file(NAME, "stale_file"));
    assert!(setting.dir.path().join(NAME).exists());
    let large = setting.quarantine(OnCorruption::Quarantine, 100_000);
    assert!(large.keep_file(NAME, "stale_file"));
    assert!(!setting.dir.path().join(NAME).exists());
    assert_eq!(setting.read(NAME), setting.contents);
    assert_eq!(setting.names(), [NAME, "buffer-data-3.dat.json"]);
    std::fs::write(setting.dir.path().join(NAME), []).unwrap();
    assert!(large.keep_file(NAME, "stale_file"));
    assert_eq!(setting.read("buffer-data-3.dat.1"), b"");
}

#[test]
fn other_policies_keep_nothing() {
    let setting = Setting::new();
    for policy in [OnCorruption::Skip, OnCorruption::Refuse] {
        let quarantine = setting.quarantine(policy, 1 << 20);
        setting.keep(&quarantine, 8, 16);
        assert!(!quarantine.keep_file(NAME, "stale_file"));
    }
    assert_eq!(setting.names(), [""; 0]);
    assert!(setting.dir.path().join(NAME).exists());
}

#[test]
fn an_error_of_its_own_is_swallowed() {
    let setting = Setting::new();
    std::fs::write(setting.dir.path().join(QUARANTINE_DIR_NAME), "a file").unwrap();
    let quarantine = setting.quarantine(OnCorruption::Quarantine, 1 << 20);
    setting.keep(&quarantine, 8, 16);
    assert!(!quarantine.keep_file(NAME, "stale_file"));
    assert!(!quarantine.keep_file("missing", "stale_file"));
    assert!(setting.dir.path().join(NAME).exists());
}

#[test]
fn strings_are_escaped_as_json() {
    let text = "a\"b\\c\n\u{1}\u{7f}ä";
    let parsed: String = serde_json::from_str(&json_string(text)).unwrap();
    assert_eq!(parsed, text);
}
