//! Recovery of randomly damaged directories: after a crash or an error in it, another
//! recovery comes to the same result.

use proptest::prelude::*;

use super::*;

/// Damage to one file or the ledger.
#[derive(Debug, Clone)]
enum Harm {
    Truncate { file: usize, by: usize },
    ZeroTail { file: usize, len: usize },
    ZeroSector { file: usize, at: usize },
    Flip { file: usize, at: usize },
    Delete { file: usize },
    Empty { file: usize },
    Copy { file: usize, to: u16 },
    Ledger { bytes: Vec<u8> },
    NoLedger,
    LedgerValues { next: u64, last: u64 },
}

fn harm() -> impl Strategy<Value = Harm> {
    let file = 0..5usize;
    prop_oneof![
        (file.clone(), 1..200usize).prop_map(|(file, by)| Harm::Truncate { file, by }),
        (file.clone(), 1..1200usize).prop_map(|(file, len)| Harm::ZeroTail { file, len }),
        (file.clone(), any::<usize>()).prop_map(|(file, at)| Harm::ZeroSector { file, at }),
        (file.clone(), any::<usize>()).prop_map(|(file, at)| Harm::Flip { file, at }),
        file.clone().prop_map(|file| Harm::Delete { file }),
        file.clone().prop_map(|file| Harm::Empty { file }),
        (file, 0..12u16).prop_map(|(file, to)| Harm::Copy { file, to }),
        prop::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| Harm::Ledger { bytes }),
        Just(Harm::NoLedger),
        (0..60u64, 0..60u64).prop_map(|(next, last)| Harm::LedgerValues { next, last }),
    ]
}

/// The first file's id, the number of records of each file, the last acknowledged id,
/// and the damage.
fn case() -> impl Strategy<Value = (u16, Vec<u64>, u64, Vec<Harm>)> {
    (
        prop_oneof![Just(0u16), Just(65533), 0..9u16],
        prop::collection::vec(0..6u64, 1..5),
        0..20u64,
        prop::collection::vec(harm(), 0..3),
    )
}

/// A damaged buffer of files from `first_file` on, with `counts` records each.
fn harmed(first_file: u16, counts: &[u64], last_id: u64, harms: &[Harm]) -> Setting {
    let mut setting = Setting::new();
    let mut ids = vec![first_file];
    for count in counts {
        let file_id = ids[ids.len() - 1];
        setting = setting.file(file_id, *count);
        ids.push(next(file_id));
    }
    let next_id = setting.next_id;
    let setting = setting.ledger(next_id, last_id.min(next_id - 1));
    let name = |file: usize| file_name(ids[file % counts.len()]);
    for harm in harms {
        apply_harm(&setting, harm, &name);
    }
    setting
}

fn apply_harm(setting: &Setting, harm: &Harm, name: &dyn Fn(usize) -> String) {
    let change = |file: usize, change: &dyn Fn(&mut Vec<u8>)| {
        if let Some(mut bytes) = setting.read(&name(file)) {
            change(&mut bytes);
            setting.write(&name(file), &bytes);
        }
    };
    match harm {
        Harm::Truncate { file, by } => {
            change(*file, &|bytes| {
                bytes.truncate(bytes.len().saturating_sub(*by));
            });
        }
        Harm::ZeroTail { file, len } => change(*file, &|bytes| bytes.resize(bytes.len() + len, 0)),
        Harm::ZeroSector { file, at } => change(*file, &|bytes| {
            let sectors = bytes.len().div_ceil(512).max(1);
            let at = at % sectors * 512;
            let end = bytes.len().min(at + 512);
            bytes[at.min(end)..end].fill(0);
        }),
        Harm::Flip { file, at } => change(*file, &|bytes| {
            if !bytes.is_empty() {
                let at = at % (bytes.len() * 8);
                bytes[at / 8] ^= 1 << (at % 8);
            }
        }),
        Harm::Delete { file } => {
            // An earlier harm may have deleted it.
            let _ = setting.sim.remove_file(Path::new(DIR).join(name(*file)));
        }
        Harm::Empty { file } => change(*file, &Vec::clear),
        Harm::Copy { file, to } => {
            if let Some(bytes) = setting.read(&name(*file)) {
                setting.write(&file_name(*to), &bytes);
            }
        }
        Harm::Ledger { bytes } => setting.write(LEDGER_FILE_NAME, bytes),
        Harm::NoLedger => {
            let _ = setting
                .sim
                .remove_file(Path::new(DIR).join(LEDGER_FILE_NAME));
        }
        Harm::LedgerValues { next, last } => {
            let mut bytes = LedgerState::INITIAL.to_bytes();
            bytes[..8].copy_from_slice(&next.to_le_bytes());
            bytes[16..].copy_from_slice(&last.to_le_bytes());
            setting.write(LEDGER_FILE_NAME, &bytes);
        }
    }
}

/// The part of the result that is the same for each recovery of a buffer.
fn essence(mut recovered: Recovered) -> Recovered {
    recovered.report = Recovery::default();
    for file in &mut recovered.files {
        file.modified = None;
    }
    recovered
}

/// The result of a recovery without file ids: of two files with the same bytes, either may
/// be the one that stays. With one of them the file ids may give the same order as the records,
/// with the other one not, and then the next record goes to a new file.
fn place(recovered: Recovered) -> Recovered {
    let mut recovered = essence(recovered);
    for file in &mut recovered.files {
        file.file_id = 0;
    }
    recovered.writer = None;
    recovered.next_file_id = 0;
    recovered
}

/// The bytes of the data files, in no particular order of files.
fn contents(sim: &Sim) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = data_files(sim)
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    all.sort();
    all
}

/// Every storage call fails, once or from then on, in recoveries that cut, move and rebuild
/// files. Whether or not that recovery returns an error, the next one comes to the same result.
#[test]
fn a_failed_call_spoils_nothing() {
    use crate::storage::fault::{Errno, Fault, Op};
    let build = || {
        let harms = [
            Harm::Truncate { file: 1, by: 9 },
            Harm::Copy { file: 0, to: 7 },
        ];
        [
            harmed(3, &[4, 4], 2, &harms),
            harmed(3, &[4, 4], 2, &[Harm::Ledger { bytes: vec![7; 30] }]),
            Setting::new(),
        ]
    };
    for case in 0..build().len() {
        let expected = essence(build()[case].recover());
        let counted = Fault::new(Arc::new(build()[case].sim.clone()));
        let storage: Arc<dyn Storage> = Arc::new(counted.clone());
        recover(&storage, Path::new(DIR), &OPTIONS).unwrap();
        let counts = counted.counts();
        assert!(counts.len() > 5, "{counts:?}");
        for (op, count) in counts {
            for (nth, permanent) in (1..=count).flat_map(|nth| [(nth, false), (nth, true)]) {
                let setting = &build()[case];
                let fault = Fault::of_sim(&setting.sim, nth);
                if permanent {
                    fault.fail_from(op, nth, Errno::Eio);
                } else {
                    fault.fail(op, nth, Errno::Eio);
                }
                let storage: Arc<dyn Storage> = Arc::new(fault);
                let result = recover(&storage, Path::new(DIR), &OPTIONS);
                if let Err(error) = &result {
                    let in_time = error.path().is_some_and(|path| path.starts_with(DIR));
                    assert!(in_time, "{op:?} {nth}: {error}");
                }
                let again = essence(setting.recover());
                assert_eq!(
                    again, expected,
                    "case {case}, {op:?} {nth} {permanent} {result:?}"
                );
                if op == Op::Sync && permanent {
                    assert!(result.is_err(), "a failed sync is not trusted");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_crash_anywhere_in_recovery_and_another_recovery_lead_to_the_same_place(
        (first_file, counts, last_id, harms) in case(),
        seed in any::<u64>(),
    ) {
        let setting = harmed(first_file, &counts, last_id, &harms);
        setting.sim.keep_history();
        let first_operation = setting.sim.operations();
        let recovered = place(setting.recover());
        let files = contents(&setting.sim);
        prop_assert_eq!(&place(setting.recover()), &recovered, "recovered again");
        for operation in first_operation..=setting.sim.operations() {
            for outcome in [0, 1, seed, seed ^ 1] {
                let Some(at) = setting.sim.at(operation) else { continue };
                let crashed = at.crash(outcome);
                let again = recover_sim(&crashed, &OPTIONS).unwrap();
                prop_assert_eq!(
                    &place(again), &recovered,
                    "operation {} outcome {}", operation, outcome
                );
                prop_assert_eq!(&contents(&crashed), &files);
            }
        }
    }

    #[test]
    fn nothing_unread_is_before_the_acknowledged_place_and_no_id_is_given_out_twice(
        (first_file, counts, last_id, harms) in case(),
    ) {
        let setting = harmed(first_file, &counts, last_id, &harms);
        let recovered = setting.recover();
        let (at, offset) = recovered.acknowledged;
        let mut seen = std::collections::BTreeSet::new();
        let mut unread = std::collections::BTreeSet::new();
        for (index, file) in recovered.files.iter().enumerate() {
            let bytes = setting.read(&file_name(file.file_id)).unwrap();
            prop_assert_eq!(bytes.len() as u64, file.len);
            for (found, id) in valid_frames(&bytes) {
                seen.insert(id);
                if (index, found) >= (at, offset) {
                    unread.insert(id);
                }
            }
        }
        for id in seen {
            prop_assert!(id < recovered.next_id, "{} is given out again", id);
            prop_assert!(id <= recovered.last_id || unread.contains(&id), "{} is left out", id);
        }
        if let Some((file_id, len)) = recovered.writer {
            let last = recovered.files.last().unwrap();
            prop_assert_eq!((last.file_id, last.len), (file_id, len));
        }
        prop_assert!(!file_ids(&recovered).contains(&recovered.next_file_id));
    }
}

/// Offset and id of each whole frame of a test record, wherever it is.
fn valid_frames(bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for at in (0..bytes.len().saturating_sub(63)).step_by(8) {
        let window = &bytes[at..at + 64];
        let id = u64::from_le_bytes(window[40..48].try_into().unwrap());
        if window == frame(id, &[id as u8; 24]) {
            found.push((at as u64, id));
        }
    }
    found
}
