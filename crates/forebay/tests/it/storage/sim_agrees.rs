//! Two properties over arbitrary sequences of calls: while the power is on, the simulated file
//! system does what the machine's does; after a power cut, every sector holds contents that it
//! had before.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use forebay::storage::os::Os;
use forebay::storage::sim::{PAGE_LEN, SECTOR_LEN, Sim};
use forebay::storage::{Access, Storage, read_full};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Call {
    Create(u8),
    Write(u8, u16, u16, u8),
    Read(u8, u16, u16),
    Truncate(u8, u16),
    Sync(u8),
    Rename(u8, u8),
    Delete(u8),
    CreateDir(u8),
    List,
    Map(u8),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let name = 0..5_u8;
    let position = 0..10_000_u16;
    let call = prop_oneof![
        name.clone().prop_map(Call::Create),
        (name.clone(), position.clone(), 0..6_000_u16, any::<u8>())
            .prop_map(|(a, b, c, d)| Call::Write(a, b, c, d)),
        (name.clone(), position.clone(), position.clone())
            .prop_map(|(a, b, c)| Call::Read(a, b, c)),
        (name.clone(), position).prop_map(|(a, b)| Call::Truncate(a, b)),
        name.clone().prop_map(Call::Sync),
        (name.clone(), name.clone()).prop_map(|(a, b)| Call::Rename(a, b)),
        name.clone().prop_map(Call::Delete),
        name.clone().prop_map(Call::CreateDir),
        Just(Call::List),
        name.prop_map(Call::Map),
    ];
    proptest::collection::vec(call, 1..40)
}

/// The last name is in a directory that may be missing.
fn place(dir: &Path, name: u8) -> PathBuf {
    match name {
        4 => dir.join("below/file"),
        _ => dir.join(format!("file-{name}")),
    }
}

/// Makes the call and describes its result.
fn run(storage: &dyn Storage, dir: &Path, call: &Call) -> io::Result<String> {
    let open = |name, access| storage.open(&place(dir, name), access);
    match *call {
        Call::Create(name) => open(name, Access::CreateNew).map(|_| "created".to_owned()),
        Call::Write(name, offset, len, byte) => {
            let bytes = vec![byte; usize::from(len)];
            let written = open(name, Access::Write)?.write_at(&bytes, offset.into())?;
            Ok(format!("{written} written"))
        }
        Call::Read(name, offset, len) => {
            let mut bytes = vec![0; usize::from(len)];
            let file = open(name, Access::Read)?;
            let count = read_full(&*file, &mut bytes, offset.into())?;
            Ok(format!("{} {:?}", file.len()?, &bytes[..count]))
        }
        Call::Truncate(name, len) => {
            open(name, Access::Write)?.truncate(len.into())?;
            Ok("cut".to_owned())
        }
        Call::Sync(name) => {
            open(name, Access::Write)?.sync()?;
            Ok("synced".to_owned())
        }
        Call::Rename(from, to) => {
            storage.rename(&place(dir, from), &place(dir, to))?;
            Ok("renamed".to_owned())
        }
        Call::Delete(name) => {
            storage.delete(&place(dir, name))?;
            Ok("deleted".to_owned())
        }
        Call::CreateDir(4) => {
            storage.create_dir(&dir.join("below"))?;
            Ok("made".to_owned())
        }
        // Never over a file, because that error differs among platforms.
        Call::CreateDir(_) => {
            storage.create_dir(dir)?;
            Ok("made".to_owned())
        }
        Call::List => {
            let entries = storage.list(dir)?.into_iter();
            let shown: Vec<_> = entries.map(|e| (e.name, e.len, e.is_file)).collect();
            Ok(format!("{shown:?}"))
        }
        Call::Map(name) => {
            let map = storage.map(&place(dir, name))?;
            map.sync()?;
            Ok("mapped".to_owned())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_simulated_file_system_does_what_the_machine_does(calls in calls()) {
        let real = tempfile::tempdir().unwrap();
        let sim = Sim::new();
        sim.create_dir(Path::new("/sim")).unwrap();
        for call in &calls {
            let expected = run(&Os, real.path(), call).map_err(|e| e.kind());
            let seen = run(&sim, Path::new("/sim"), call).map_err(|e| e.kind());
            prop_assert_eq!(seen, expected, "{:?}", call);
        }
    }

    #[test]
    fn a_crash_leaves_only_sectors_and_lengths_that_were_there(
        calls in calls(),
        seed in any::<u64>(),
    ) {
        let sim = Sim::new();
        sim.write_file("/file-0", &[0xaa; 5000]).unwrap();
        // For each sector, the contents since the last sync. Zeros are always possible where
        // the file grew.
        let mut lens = BTreeSet::new();
        let mut sectors: Vec<BTreeSet<Vec<u8>>> = Vec::new();
        let mut note = |sim: &Sim, is_synced: bool| {
            let mut bytes = sim.read_file("/file-0").unwrap();
            if is_synced {
                lens.clear();
                sectors.clear();
            }
            lens.insert(bytes.len());
            bytes.resize(5 * PAGE_LEN, 0);
            sectors.resize(bytes.len() / SECTOR_LEN, BTreeSet::new());
            for (sector, seen) in bytes.chunks(SECTOR_LEN).zip(&mut sectors) {
                seen.insert(sector.to_vec());
                if !is_synced {
                    seen.insert(vec![0; SECTOR_LEN]);
                }
            }
        };
        note(&sim, true);
        for call in &calls {
            if matches!(call, Call::Write(0, ..) | Call::Truncate(0, _) | Call::Sync(0)) {
                let _ = run(&sim, Path::new("/"), call);
                note(&sim, matches!(call, Call::Sync(_)));
            }
        }
        let mut left = sim.crash(seed).read_file("/file-0").unwrap();
        prop_assert!(lens.contains(&left.len()), "length {}", left.len());
        let len = left.len();
        left.resize(5 * PAGE_LEN, 0);
        for (index, sector) in left.chunks(SECTOR_LEN).enumerate() {
            let end = len.saturating_sub(index * SECTOR_LEN).min(SECTOR_LEN);
            let known = |seen: &Vec<u8>| seen[..end] == sector[..end];
            prop_assert!(sectors[index].iter().any(known), "sector {index}");
        }
    }
}
