//! Data files that are deleted, copied, swapped or renamed.

use forebay::format::file_id::{LEDGER_FILE_NAME, MAX_FILE_ID, file_name};
use forebay::storage::sim::Sim;

use super::judge::{Left, tell};
use super::shapes::{Shape, path};
use crate::workload::DIR;

/// Checks what is left, with and without the ledger.
fn check(shape: &Shape, mut left: Left<'_>, sim: &Sim, what: &str) {
    let without = sim.kill();
    if let Err(e) = left.check(sim) {
        panic!("{}: {what}: {e}", shape.name);
    }
    without.remove_file(path(LEDGER_FILE_NAME)).unwrap();
    if without.files(DIR).is_empty() {
        return;
    }
    left.ledger = None;
    if let Err(e) = left.check(&without) {
        panic!("{}: {what}, without a ledger: {e}", shape.name);
    }
}

#[test]
fn each_file_deleted() {
    for shape in Shape::all() {
        for (index, (_, records)) in shape.files.iter().enumerate() {
            let sim = shape.sim();
            sim.remove_file(path(&shape.file(index))).unwrap();
            let mut left = Left::everything(&shape);
            left.gone = records.iter().map(|record| record.id).collect();
            let what = format!("{} deleted", shape.file(index));
            check(&shape, left, &sim, &what);
        }
    }
    tell("each file deleted");
}

#[test]
fn each_file_emptied() {
    for shape in Shape::all() {
        for (index, (_, records)) in shape.files.iter().enumerate() {
            let sim = shape.sim();
            sim.write_file(path(&shape.file(index)), &[]).unwrap();
            let mut left = Left::everything(&shape);
            left.gone = records.iter().map(|record| record.id).collect();
            let what = format!("{} emptied", shape.file(index));
            check(&shape, left, &sim, &what);
        }
    }
    tell("each file emptied");
}

/// Under every name that could mislead: next to the others, far away, at both ends of the
/// range of file ids.
#[test]
fn each_file_copied() {
    for shape in Shape::all() {
        let used: Vec<u16> = shape.files.iter().map(|(file_id, _)| *file_id).collect();
        let near = used.iter().flat_map(|id| [id.wrapping_sub(1), id + 1]);
        let names: Vec<u16> = near
            .chain([0, 1, 30_000, MAX_FILE_ID - 1, MAX_FILE_ID])
            .filter(|id| *id <= MAX_FILE_ID && !used.contains(id))
            .collect();
        for index in 0..shape.files.len() {
            for file_id in &names {
                let sim = shape.sim();
                let copy = path(&file_name(*file_id));
                sim.write_file(copy, &shape.bytes(index)).unwrap();
                let what = format!("{} copied to {file_id}", shape.file(index));
                check(&shape, Left::everything(&shape), &sim, &what);
            }
        }
    }
    tell("each file copied");
}

#[test]
fn each_two_files_swapped() {
    for shape in Shape::all() {
        for one in 0..shape.files.len() {
            for other in 0..one {
                let sim = shape.sim();
                for (from, to) in [(one, other), (other, one)] {
                    let to = path(&shape.file(to));
                    sim.write_file(to, &shape.bytes(from)).unwrap();
                }
                let what = format!("{} and {} swapped", shape.file(one), shape.file(other));
                check(&shape, Left::everything(&shape), &sim, &what);
            }
        }
    }
    tell("each two files swapped");
}

/// One file in the place of another: the records of the overwritten file are gone.
#[test]
fn each_file_over_another() {
    for shape in Shape::all() {
        for from in 0..shape.files.len() {
            for to in (0..shape.files.len()).filter(|to| *to != from) {
                let sim = shape.sim();
                sim.write_file(path(&shape.file(to)), &shape.bytes(from))
                    .unwrap();
                let mut left = Left::everything(&shape);
                left.gone = shape.files[to].1.iter().map(|record| record.id).collect();
                let what = format!("{} over {}", shape.file(from), shape.file(to));
                check(&shape, left, &sim, &what);
            }
        }
    }
    tell("each file over another");
}
