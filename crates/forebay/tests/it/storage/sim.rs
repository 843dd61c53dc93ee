//! Each outcome of a power cut that the simulated file system models occurs with some seed, and
//! no outcome that a sync rules out occurs with any.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;

use forebay::storage::sim::{Kernel, PAGE_LEN, SECTOR_LEN, Sim};
use forebay::storage::{Access, File, Map, Storage, read_full};

/// Enough for every outcome of the small cases here.
const SEEDS: std::ops::Range<u64> = 2..600;

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn create(sim: &Sim, name: &str) -> Box<dyn File> {
    sim.open(path(name), Access::CreateNew).unwrap()
}

/// A file with a durable name and these durable contents, open for writing.
fn durable(sim: &Sim, name: &str, bytes: &[u8]) -> Box<dyn File> {
    sim.write_file(name, bytes).unwrap();
    sim.open(path(name), Access::Write).unwrap()
}

/// What a crash leaves of a file, over all seeds.
fn outcomes(sim: &Sim, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    SEEDS.map(|seed| sim.crash(seed).read_file(name)).collect()
}

fn names(sim: &Sim) -> String {
    let names = sim.files("/").into_iter().map(|(name, _)| name);
    names.collect::<Vec<_>>().join(" ")
}

fn name_outcomes(sim: &Sim, kernel: Kernel) -> BTreeSet<String> {
    SEEDS
        .map(|seed| names(&sim.crash_as(kernel, seed)))
        .collect()
}

fn strings(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn store(map: &dyn Map, values: [u64; 3]) {
    for (word, value) in map.words().iter().zip(values) {
        word.store(value.to_le(), Ordering::Release);
    }
}

/// A durable ledger of zeros, mapped.
fn mapped(sim: &Sim) -> Box<dyn Map> {
    sim.write_file("/words", &[0; 24]).unwrap();
    sim.map(path("/words")).unwrap()
}

fn words(sim: &Sim) -> [u64; 3] {
    let bytes = sim.read_file("/words").unwrap();
    let word = |i: usize| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap());
    [word(0), word(1), word(2)]
}

#[test]
fn a_synced_file_in_an_unsynced_directory_may_be_gone() {
    let sim = Sim::new();
    let file = create(&sim, "/file");
    file.write_at(b"contents", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(sim.crash(0).read_file("/file"), None);
    assert_eq!(
        outcomes(&sim, "/file"),
        BTreeSet::from([None, Some(b"contents".to_vec())])
    );
    sim.sync_dir(path("/")).unwrap();
    assert_eq!(
        outcomes(&sim, "/file"),
        BTreeSet::from([Some(b"contents".to_vec())])
    );
}

#[test]
fn an_unsynced_file_in_a_synced_directory_may_be_empty() {
    let sim = Sim::new();
    let file = create(&sim, "/file");
    file.write_at(b"contents", 0).unwrap();
    sim.sync_dir(path("/")).unwrap();
    assert_eq!(sim.crash(0).read_file("/file"), Some(vec![]));
    assert_eq!(sim.crash(1).read_file("/file"), Some(b"contents".to_vec()));
}

#[test]
fn a_file_may_have_grown_and_hold_zeros() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", b"old");
    file.write_at(b"new", 3).unwrap();
    assert_eq!(
        outcomes(&sim, "/file"),
        BTreeSet::from([
            Some(b"old".to_vec()),
            Some(b"old\0\0\0".to_vec()),
            Some(b"oldnew".to_vec()),
        ])
    );
}

#[test]
fn a_page_may_be_torn_between_sectors_and_never_inside_one() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", &[1; PAGE_LEN]);
    file.write_at(&[2; PAGE_LEN], 0).unwrap();
    let mut torn = 0;
    for outcome in outcomes(&sim, "/file").into_iter().flatten() {
        let mut kinds = BTreeSet::new();
        for sector in outcome.chunks(SECTOR_LEN) {
            assert!(sector.iter().all(|&byte| byte == sector[0]));
            kinds.insert(sector[0]);
        }
        torn += usize::from(kinds.len() == 2);
    }
    assert!(torn > 10, "{torn} torn outcomes");
}

#[test]
fn writes_reach_the_disk_in_any_order() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", &[0; 2 * PAGE_LEN]);
    file.write_at(&[1], 0).unwrap();
    file.write_at(&[1], PAGE_LEN as u64).unwrap();
    let seen: BTreeSet<_> = outcomes(&sim, "/file")
        .into_iter()
        .flatten()
        .map(|bytes| (bytes[0], bytes[PAGE_LEN]))
        .collect();
    assert_eq!(seen, BTreeSet::from([(0, 0), (0, 1), (1, 0), (1, 1)]));
}

#[test]
fn a_sync_pins_the_contents_for_every_seed() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", b"");
    let bytes: Vec<u8> = (0..20_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    for (index, chunk) in bytes.chunks(777).enumerate() {
        file.write_at(chunk, 777 * index as u64).unwrap();
    }
    file.truncate(15_000).unwrap();
    file.sync().unwrap();
    assert_eq!(
        outcomes(&sim, "/file"),
        BTreeSet::from([Some(bytes[..15_000].to_vec())])
    );
}

#[test]
fn a_cut_may_be_undone_and_what_was_written_after_it_may_stay() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", b"record torn-tail");
    file.truncate(6).unwrap();
    assert_eq!(
        outcomes(&sim, "/file"),
        BTreeSet::from([
            Some(b"record torn-tail".to_vec()),
            Some(b"record\0\0\0\0\0\0\0\0\0\0".to_vec()),
            Some(b"record".to_vec()),
        ])
    );
    file.write_at(b" two", 6).unwrap();
    let seen = outcomes(&sim, "/file");
    // The new record, followed by zeros up to the old length.
    assert!(seen.contains(&Some(b"record two\0\0\0\0\0\0".to_vec())));
    assert!(seen.contains(&Some(b"record torn-tail".to_vec())));
    assert!(seen.contains(&Some(b"record two".to_vec())));
}

#[test]
fn bytes_cut_off_never_come_back_once_the_cut_is_synced() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", &[1; 3 * PAGE_LEN]);
    file.truncate(10).unwrap();
    file.sync().unwrap();
    file.write_at(&[2; 100], 2 * PAGE_LEN as u64).unwrap();
    for outcome in outcomes(&sim, "/file").into_iter().flatten() {
        assert_eq!(outcome.iter().filter(|&&byte| byte == 1).count(), 10);
    }
}

#[test]
fn pages_cut_off_and_written_again_hold_zeros_or_the_new_bytes() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", &[1; 2 * PAGE_LEN]);
    file.truncate(0).unwrap();
    file.write_at(&[2; 2 * PAGE_LEN], 0).unwrap();
    let mut seen = BTreeSet::new();
    for outcome in outcomes(&sim, "/file").into_iter().flatten() {
        let kinds: BTreeSet<u8> = outcome.iter().copied().collect();
        assert!(!(kinds.contains(&1) && kinds.contains(&2)), "mixed");
        seen.insert(kinds.into_iter().collect::<Vec<_>>());
    }
    assert_eq!(
        seen,
        BTreeSet::from([vec![], vec![0], vec![0, 2], vec![1], vec![2]])
    );
}

#[test]
fn a_deletion_may_be_undone_until_the_directory_is_synced() {
    let sim = Sim::new();
    drop(durable(&sim, "/file", b"contents"));
    sim.delete(path("/file")).unwrap();
    assert_eq!(
        outcomes(&sim, "/file"),
        BTreeSet::from([None, Some(b"contents".to_vec())])
    );
    sim.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&sim, "/file"), BTreeSet::from([None]));
}

#[test]
fn a_journalling_kernel_loses_a_suffix_and_a_careless_one_anything() {
    let sim = Sim::new();
    for name in ["/a", "/b", "/c"] {
        create(&sim, name);
    }
    assert_eq!(
        name_outcomes(&sim, Kernel::Journalling),
        strings(&["", "a", "a b", "a b c"])
    );
    assert_eq!(
        name_outcomes(&sim, Kernel::Careless),
        strings(&["", "a", "b", "c", "a b", "a c", "b c", "a b c"])
    );
}

#[test]
fn a_rename_leaves_one_name_or_both_and_never_neither() {
    let sim = Sim::new();
    drop(durable(&sim, "/old", b"contents"));
    sim.rename(path("/old"), path("/new")).unwrap();
    assert_eq!(
        name_outcomes(&sim, Kernel::Journalling),
        strings(&["old", "new"])
    );
    assert_eq!(
        name_outcomes(&sim, Kernel::Careless),
        strings(&["old", "new", "new old"])
    );
    sim.rename(path("/new"), path("/newer")).unwrap();
    let seen = name_outcomes(&sim, Kernel::Careless);
    assert!(!seen.contains(""), "{seen:?}");
    sim.sync_dir(path("/")).unwrap();
    assert_eq!(name_outcomes(&sim, Kernel::Careless), strings(&["newer"]));
}

#[test]
fn a_rename_replaces_the_file_of_that_name_or_does_not() {
    let sim = Sim::new();
    drop(durable(&sim, "/old", b"old"));
    drop(durable(&sim, "/new", b"new"));
    sim.rename(path("/new"), path("/old")).unwrap();
    assert_eq!(sim.read_file("/old"), Some(b"new".to_vec()));
    assert_eq!(
        outcomes(&sim, "/old"),
        BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())])
    );
}

#[test]
fn a_file_moved_to_another_directory_is_always_in_one_of_them() {
    let sim = Sim::new();
    drop(durable(&sim, "/here/file", b"contents"));
    drop(durable(&sim, "/there/other", b""));
    sim.rename(path("/here/file"), path("/there/file")).unwrap();
    let places = |sim: &Sim| {
        [
            sim.read_file("/here/file").is_some(),
            sim.read_file("/there/file").is_some(),
        ]
    };
    let all = |sim: &Sim| -> BTreeSet<_> { SEEDS.map(|seed| places(&sim.crash(seed))).collect() };
    assert_eq!(
        all(&sim),
        BTreeSet::from([[true, false], [false, true], [true, true]])
    );
    let (target_first, source_first) = (sim.kill(), sim.kill());
    target_first.sync_dir(path("/there")).unwrap();
    assert_eq!(
        all(&target_first),
        BTreeSet::from([[false, true], [true, true]])
    );
    source_first.sync_dir(path("/here")).unwrap();
    assert_eq!(all(&source_first), BTreeSet::from([[false, true]]));
}

#[test]
fn a_directory_made_through_the_seam_is_durable() {
    let sim = Sim::new();
    sim.create_dir(path("/a/b")).unwrap();
    // Making two directories and syncing two parents; the root has none.
    assert_eq!(sim.operations(), 4);
    let crashed = sim.crash(0);
    assert!(crashed.list(path("/a/b")).unwrap().is_empty());
    for done in 0..4 {
        let half = Sim::new();
        half.power_off_after(done);
        assert!(half.create_dir(path("/a/b")).is_err());
        let is_durable = half.crash(0).list(path("/a/b")).is_ok();
        assert!(!is_durable, "after {done} operations");
    }
}

#[test]
fn making_a_directory_that_is_there_makes_its_name_durable() {
    let killed = Sim::new();
    killed.power_off_after(1);
    assert!(killed.create_dir(path("/a")).is_err());
    let sim = killed.kill();
    assert!(sim.crash(0).list(path("/a")).is_err());
    sim.create_dir(path("/a")).unwrap();
    assert!(sim.crash(0).list(path("/a")).is_ok());
}

#[test]
fn the_ledger_reaches_the_disk_without_the_data_and_the_data_without_it() {
    let sim = Sim::new();
    let map = mapped(&sim);
    let file = durable(&sim, "/data", b"");
    file.write_at(b"record", 0).unwrap();
    store(&*map, [2, 0, 0]);
    let seen: BTreeSet<_> = SEEDS
        .map(|seed| {
            let after = sim.crash(seed);
            let has_data = after.read_file("/data").unwrap() == b"record";
            (words(&after)[0], has_data)
        })
        .collect();
    assert_eq!(
        seen,
        BTreeSet::from([(0, false), (0, true), (2, false), (2, true)])
    );
}

#[test]
fn any_value_of_the_ledger_seen_since_its_sync_may_be_on_the_disk() {
    let sim = Sim::new();
    let map = mapped(&sim);
    for value in 1..=3 {
        store(&*map, [value; 3]);
        sim.sync_dir(path("/")).unwrap();
    }
    let all = |sim: &Sim, kernel| -> BTreeSet<_> {
        SEEDS
            .map(|seed| words(&sim.crash_as(kernel, seed)))
            .collect()
    };
    for kernel in [Kernel::Journalling, Kernel::Careless] {
        assert_eq!(
            all(&sim, kernel),
            BTreeSet::from([[0; 3], [1; 3], [2; 3], [3; 3]])
        );
    }
    // The words may be of neighbouring values, but never of distant ones.
    let mixed = all(&sim, Kernel::WordByWord);
    assert!(mixed.contains(&[1, 2, 2]));
    for [a, b, c] in mixed {
        assert!(a.abs_diff(b) <= 1 && b.abs_diff(c) <= 1 && a.abs_diff(c) <= 1);
    }
    map.sync().unwrap();
    assert_eq!(all(&sim, Kernel::WordByWord), BTreeSet::from([[3; 3]]));
}

#[test]
fn an_unsynced_map_keeps_a_bounded_number_of_values() {
    let sim = Sim::new();
    let map = mapped(&sim);
    for value in 1..10_000 {
        store(&*map, [value; 3]);
        sim.sync_dir(path("/")).unwrap();
    }
    assert_eq!(words(&sim.crash(0)), [0; 3]);
    assert_eq!(words(&sim.crash(1)), [9_999; 3]);
    let seen: BTreeSet<_> = SEEDS.map(|seed| words(&sim.crash(seed))).collect();
    assert!((10..=300).contains(&seen.len()), "{}", seen.len());
}

#[test]
fn the_map_and_its_file_show_the_same_bytes() {
    let sim = Sim::new();
    let map = mapped(&sim);
    let file = sim.open(path("/words"), Access::Write).unwrap();
    store(&*map, [7, 8, 9]);
    let mut bytes = [0; 24];
    assert_eq!(read_full(&*file, &mut bytes, 0).unwrap(), 24);
    assert_eq!(bytes[8..16], [8, 0, 0, 0, 0, 0, 0, 0]);
    file.write_at(&[1, 2], 8).unwrap();
    let second = sim.map(path("/words")).unwrap();
    for map in [&map, &second] {
        let [first, second, _] = map.words();
        assert_eq!(first.load(Ordering::Acquire), 7_u64.to_le());
        assert_eq!(second.load(Ordering::Acquire), 0x0201_u64.to_le());
    }
    // A sync of the file syncs the map as well.
    file.sync().unwrap();
    assert_eq!(words(&sim.crash(0)), [7, 0x0201, 9]);
    let busy = file.truncate(0).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
    drop((map, second));
    file.truncate(0).unwrap();
    let refused = sim.map(path("/words")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[test]
fn values_stored_before_the_map_was_dropped_are_kept() {
    let sim = Sim::new();
    let map = mapped(&sim);
    store(&*map, [1, 2, 3]);
    drop(map);
    assert_eq!(words(&sim), [1, 2, 3]);
    assert_eq!(words(&sim.crash(1)), [1, 2, 3]);
    assert_eq!(words(&sim.crash(0)), [0, 0, 0]);
}

/// Makes calls of every kind; stops at the first error.
fn workload(sim: &Sim) -> std::io::Result<()> {
    sim.create_dir(path("/buffer"))?;
    let _lock = sim.lock(path("/buffer/lock"))?;
    let ledger = sim.open(path("/buffer/words"), Access::CreateNew)?;
    ledger.write_at(&[0; 24], 0)?;
    ledger.sync()?;
    sim.sync_dir(path("/buffer"))?;
    let map = sim.map(path("/buffer/words"))?;
    for round in 1..4_u64 {
        let name = format!("/buffer/data-{round}");
        let file = sim.open(path(&name), Access::CreateNew)?;
        file.write_at(&[1; 3000], 0)?;
        store(&*map, [round; 3]);
        file.write_at(&[2; 3000], 3000)?;
        if round > 1 {
            file.sync()?;
            sim.sync_dir(path("/buffer"))?;
            map.sync()?;
        }
        file.truncate(4000)?;
        store(&*map, [round; 3].map(|word| word + 10));
    }
    sim.rename(path("/buffer/data-1"), path("/buffer/data-9"))?;
    sim.delete(path("/buffer/data-2"))?;
    sim.list(path("/buffer"))?;
    Ok(())
}

fn all_files(sim: &Sim) -> Vec<(String, Option<Vec<u8>>)> {
    let names = sim.files("/buffer").into_iter();
    names
        .map(|(name, _)| {
            let bytes = sim.read_file(format!("/buffer/{name}"));
            (name, bytes)
        })
        .collect()
}

#[test]
fn a_seed_replays_and_seeds_differ() {
    let (first, second) = (Sim::new(), Sim::new());
    workload(&first).unwrap();
    workload(&second).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let outcome = all_files(&first.crash(seed));
        assert_eq!(outcome, all_files(&second.crash(seed)), "seed {seed}");
        seen.insert(outcome);
    }
    assert!(seen.len() > 100, "{} outcomes", seen.len());
}

#[test]
fn a_power_cut_ends_everything_at_the_operation_it_was_set_to() {
    let whole = Sim::new();
    workload(&whole).unwrap();
    for cut in 0..whole.operations() {
        let sim = Sim::new();
        sim.power_off_after(cut);
        let error = workload(&sim).unwrap_err();
        assert_eq!(error.to_string(), "simulated power cut");
        assert_eq!(sim.operations(), cut);
        assert!(sim.is_powered_off());
        assert!(sim.list(path("/")).is_err());
        assert!(sim.open(path("/buffer/words"), Access::Read).is_err());
        assert!(sim.free_bytes(path("/")).is_err());
    }
    let sim = Sim::new();
    sim.power_off_after(whole.operations());
    workload(&sim).unwrap();
}

#[test]
fn the_state_kept_before_an_operation_is_that_of_a_power_cut_there() {
    let whole = Sim::new();
    whole.keep_history();
    workload(&whole).unwrap();
    for cut in 0..=whole.operations() {
        let sim = Sim::new();
        sim.power_off_after(cut);
        let _ = workload(&sim);
        let kept = whole.at(cut).unwrap();
        assert_eq!(all_files(&sim), all_files(&kept), "cut {cut}");
        for seed in 0..20 {
            assert_eq!(
                all_files(&sim.crash(seed)),
                all_files(&kept.crash(seed)),
                "cut {cut}, seed {seed}"
            );
        }
    }
    assert!(whole.at(whole.operations() + 1).is_none());
    let unkept = Sim::new();
    workload(&unkept).unwrap();
    assert!(unkept.at(0).is_none());
}

#[test]
fn a_write_under_way_at_the_power_cut_may_be_done_in_part() {
    let mut lens = BTreeSet::new();
    for seed in 0..50 {
        let sim = Sim::new();
        let file = durable(&sim, "/file", b"");
        sim.power_off_during(0, seed);
        assert!(file.write_at(&[1; 4], 0).is_err());
        assert!(file.write_at(&[1; 4], 4).is_err());
        lens.insert(sim.kill().files("/")[0].1);
    }
    assert_eq!(lens, BTreeSet::from([0, 1, 2, 3, 4]));
}

#[test]
fn a_kept_write_can_be_stopped_in_the_middle() {
    let sim = Sim::new();
    sim.keep_history();
    let file = create(&sim, "/file");
    file.write_at(b"written", 0).unwrap();
    file.sync().unwrap();
    let in_parts: BTreeSet<_> = (0..50)
        .map(|seed| sim.during(1, seed).unwrap().read_file("/file").unwrap())
        .collect();
    let prefixes = (0..=7).map(|len| b"written"[..len].to_vec()).collect();
    assert_eq!(in_parts, prefixes);
    // The operations before and after it are no writes.
    assert!(sim.during(0, 1).is_none() && sim.during(2, 1).is_none());
}

#[test]
fn what_a_process_stores_after_the_power_cut_is_not_seen() {
    let sim = Sim::new();
    let map = mapped(&sim);
    store(&*map, [1; 3]);
    sim.power_off_after(0);
    assert!(map.sync().is_err());
    store(&*map, [2; 3]);
    let seen: BTreeSet<_> = (0..100).map(|seed| words(&sim.crash(seed))).collect();
    assert!(seen.contains(&[1; 3]));
    assert!(seen.iter().flatten().all(|&word| word < 2));
}

#[test]
fn a_killed_process_loses_nothing_and_leaves_the_pending_pending() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", b"old");
    let lock = sim.lock(path("/lock")).unwrap();
    file.write_at(b"new", 0).unwrap();
    let killed = sim.kill();
    assert_eq!(killed.read_file("/file"), Some(b"new".to_vec()));
    assert_eq!(killed.crash(0).read_file("/file"), Some(b"old".to_vec()));
    assert_eq!(
        sim.crash(1).crash(0).read_file("/file"),
        Some(b"new".to_vec())
    );
    killed.lock(path("/lock")).unwrap();
    drop(lock);
}

#[test]
fn handles_of_the_old_machine_do_not_touch_the_new_one() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", b"old");
    let map = mapped(&sim);
    let (crashed, killed) = (sim.crash(1), sim.kill());
    file.write_at(b"new", 0).unwrap();
    store(&*map, [5; 3]);
    file.sync().unwrap();
    map.sync().unwrap();
    for new in [crashed, killed] {
        assert_eq!(new.read_file("/file"), Some(b"old".to_vec()));
        assert_eq!(words(&new), [0; 3]);
        assert_eq!(new.operations(), 0);
    }
    assert_eq!(sim.read_file("/file"), Some(b"new".to_vec()));
}

#[test]
fn a_lock_is_exclusive_until_dropped_or_the_machine_crashes() {
    let sim = Sim::new();
    let lock = sim.lock(path("/lock")).unwrap();
    let held = sim.lock(path("/lock")).unwrap_err();
    assert_eq!(held.kind(), ErrorKind::WouldBlock);
    sim.crash(1).lock(path("/lock")).unwrap();
    drop(lock);
    sim.lock(path("/lock")).unwrap();
}

#[test]
fn a_full_disk_cuts_a_write_short_and_then_refuses() {
    let sim = Sim::new();
    assert_eq!(sim.free_bytes(path("/")).unwrap(), None);
    sim.set_capacity(Some(100));
    let file = create(&sim, "/file");
    assert_eq!(file.write_at(&[1; 60], 0).unwrap(), 60);
    assert_eq!(sim.free_bytes(path("/")).unwrap(), Some(40));
    assert_eq!(file.write_at(&[2; 60], 50).unwrap(), 50);
    assert_eq!(sim.used_bytes(), 100);
    let full = file.write_at(&[3], 100).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    // Bytes that are there may be overwritten.
    assert_eq!(file.write_at(&[4; 100], 0).unwrap(), 100);
    let other = create(&sim, "/other");
    assert!(other.write_at(&[5], 0).is_err());
    sim.delete(path("/file")).unwrap();
    assert_eq!(sim.free_bytes(path("/")).unwrap(), Some(100));
    assert_eq!(other.write_at(&[5], 0).unwrap(), 1);
    other.truncate(0).unwrap();
    assert_eq!(sim.crash(1).free_bytes(path("/")).unwrap(), Some(100));
}

#[test]
fn a_failed_sync_loses_what_no_later_sync_brings_back() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", &[1; 2 * PAGE_LEN]);
    file.write_at(&[2; 2 * PAGE_LEN], 0).unwrap();
    sim.fail_sync("/file", 0).unwrap();
    // Readers see the new bytes, and the next sync succeeds.
    assert_eq!(sim.read_file("/file").unwrap()[0], 2);
    file.sync().unwrap();
    assert_eq!(sim.crash(1).read_file("/file"), Some(vec![1; 2 * PAGE_LEN]));
    // Only a page that is written again can still reach the disk.
    file.write_at(&[3], 0).unwrap();
    file.sync().unwrap();
    let after = sim.crash(0).read_file("/file").unwrap();
    assert_eq!(after[..2], [3, 2]);
    assert_eq!(after[PAGE_LEN..], [1; PAGE_LEN]);
    sim.evict("/file").unwrap();
    assert_eq!(sim.read_file("/file").unwrap(), after);
}

#[test]
fn some_of_what_a_failed_sync_was_to_write_may_have_reached_the_disk() {
    let mut seen = BTreeSet::new();
    for seed in 1..100 {
        let sim = Sim::new();
        let file = durable(&sim, "/file", &[0; 2 * PAGE_LEN]);
        file.write_at(&[1; 2 * PAGE_LEN], 0).unwrap();
        sim.fail_sync("/file", seed).unwrap();
        file.sync().unwrap();
        let bytes = sim.crash(0).read_file("/file").unwrap();
        seen.insert((bytes[0], bytes[PAGE_LEN]));
    }
    assert_eq!(seen, BTreeSet::from([(0, 0), (0, 1), (1, 0), (1, 1)]));
}

#[test]
fn a_failed_write_back_is_told_once_by_the_next_sync() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", &[1; 2 * PAGE_LEN]);
    file.write_at(&[2; PAGE_LEN], 0).unwrap();
    sim.fail_write_back("/file", 0).unwrap();
    file.write_at(&[3; PAGE_LEN], PAGE_LEN as u64).unwrap();
    // A handle that is opened later gets the error as well.
    let killed = sim.kill();
    let again = killed.open(path("/file"), Access::Read).unwrap();
    assert!(again.sync().is_err());
    assert!(file.sync().is_err());
    file.sync().unwrap();
    // The sync that failed wrote the bytes that came after the write-back.
    let on_disk = [[1; PAGE_LEN], [3; PAGE_LEN]].concat();
    assert_eq!(sim.crash(0).read_file("/file"), Some(on_disk));
}

#[test]
fn equal_files_have_equal_fingerprints() {
    let (one, other) = (Sim::new(), Sim::new());
    let file = durable(&one, "/file", b"contents");
    assert_ne!(one.fingerprint("/"), other.fingerprint("/"));
    other.write_file("/file", b"contents").unwrap();
    assert_eq!(one.fingerprint("/"), other.fingerprint("/"));
    file.write_at(b"C", 0).unwrap();
    assert_ne!(one.fingerprint("/"), other.fingerprint("/"));
}

#[test]
fn a_deleted_file_stays_with_its_handles() {
    let sim = Sim::new();
    let file = durable(&sim, "/file", b"contents");
    sim.delete(path("/file")).unwrap();
    sim.sync_dir(path("/")).unwrap();
    let mut bytes = [0; 8];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 8);
    let newer = create(&sim, "/file");
    newer.write_at(b"other", 0).unwrap();
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 8);
    assert_eq!(&bytes, b"contents");
}

#[test]
fn what_tests_prepare_is_durable_and_seen_by_those_who_have_it_open() {
    let sim = Sim::new();
    let file = durable(&sim, "/dir/file", b"good");
    sim.write_file("/dir/file", b"bad").unwrap();
    assert_eq!(file.len().unwrap(), 3);
    assert_eq!(sim.crash(0).read_file("/dir/file"), Some(b"bad".to_vec()));
    sim.rename_file("/dir/file", "/dir/moved").unwrap();
    assert_eq!(sim.files("/dir"), [("moved".to_owned(), 3)]);
    assert_eq!(sim.crash(0).files("/dir"), [("moved".to_owned(), 3)]);
    sim.remove_file("/dir/moved").unwrap();
    assert_eq!(sim.crash(0).files("/dir"), []);
    assert_eq!(sim.operations(), 0);
    assert!(sim.write_file("/dir", b"").is_err());
    assert!(sim.write_file("/", b"").is_err());
    assert!(sim.remove_file("/dir/missing").is_err());
}

#[test]
fn a_real_directory_goes_in_and_comes_out() {
    let real = tempfile::tempdir().unwrap();
    std::fs::write(real.path().join("a"), b"one").unwrap();
    std::fs::write(real.path().join("b"), b"").unwrap();
    std::fs::create_dir(real.path().join("below")).unwrap();
    let sim = Sim::new();
    sim.import_dir(real.path(), "/x/y").unwrap();
    assert_eq!(
        sim.crash(0).files("/x/y"),
        [("a".to_owned(), 3), ("b".to_owned(), 0)]
    );
    let out = real.path().join("out");
    sim.export_dir("/x/y", &out).unwrap();
    assert_eq!(std::fs::read(out.join("a")).unwrap(), b"one");
    assert_eq!(std::fs::read(out.join("b")).unwrap(), b"");
}

#[test]
fn times_rise_with_every_change_and_replay() {
    let sim = Sim::new();
    drop(durable(&sim, "/a", b""));
    let file = create(&sim, "/b");
    let modified = |index: usize| sim.list(path("/")).unwrap()[index].modified.unwrap();
    let first = modified(1);
    assert!(first > modified(0));
    file.sync().unwrap();
    assert_eq!(modified(1), first);
    file.write_at(b"x", 0).unwrap();
    assert!(modified(1) > first);
}

#[test]
fn no_file_grows_beyond_all_bounds() {
    let sim = Sim::new();
    let file = create(&sim, "/file");
    for offset in [1 << 40, u64::MAX] {
        let refused = file.write_at(b"x", offset).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
    }
    assert_eq!(file.read_at(&mut [0], u64::MAX).unwrap(), 0);
    assert_eq!(file.len().unwrap(), 0);
}
