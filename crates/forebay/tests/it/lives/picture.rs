//! What the files of a stopped machine hold, in words, for a trace.

use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::format::ledger::LedgerState;
use forebay::format::record::FRAME_OVERHEAD;
use forebay::storage::sim::Sim;

use crate::workload::DIR;

/// A line for each file: the ids of the frames that follow each other, and where
/// something else stands.
pub(super) fn picture(sim: &Sim) -> String {
    let mut lines = Vec::new();
    for (name, len) in sim.files(DIR) {
        let bytes = sim.read_file(format!("{DIR}/{name}")).unwrap_or_default();
        let what = match name.as_str() {
            LEDGER_FILE_NAME => match <[u8; 24]>::try_from(&*bytes) {
                Ok(bytes) => format!("{:?}", LedgerState::from_bytes(&bytes)),
                Err(_) => "no ledger".to_owned(),
            },
            _ if name.ends_with(".dat") || name.ends_with(".new") => frames(&bytes),
            _ => continue,
        };
        lines.push(format!("    {name}, {len} bytes: {what}"));
    }
    lines.join("\n")
}

/// Follows delimiters and ids alone; checksums are not checked.
fn frames(bytes: &[u8]) -> String {
    let word = |at: usize| -> Option<u64> {
        let bytes = bytes.get(at..at + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let (mut at, mut words) = (0, Vec::new());
    let mut run: Option<(u64, u64)> = None;
    while at < bytes.len() {
        let len = word(at).and_then(|len| usize::try_from(len).ok());
        let end = len.and_then(|len| at.checked_add(8)?.checked_add(len));
        let frame = end.filter(|&end| end <= bytes.len() && end - at >= FRAME_OVERHEAD);
        let id = frame.and_then(|end| word(end - 24)).map(u64::swap_bytes);
        match (id, frame) {
            (Some(id), Some(end)) => {
                run = Some((run.map_or(id, |(first, _)| first), id));
                at = end;
            }
            _ => {
                words.extend(run.take().map(|(first, last)| format!("{first}..={last}")));
                let rest = &bytes[at..];
                let is_next = |start: &usize| {
                    let end =
                        word(at + start).map(|len| len.saturating_add((at + start + 8) as u64));
                    end.is_some_and(|end| end <= bytes.len() as u64) && word(at + start) >= Some(32)
                };
                let skip = (8..rest.len())
                    .step_by(8)
                    .find(is_next)
                    .unwrap_or(rest.len());
                let zeros = rest[..skip.min(rest.len())].iter().all(|byte| *byte == 0);
                let kind = if zeros { "zeros" } else { "junk" };
                words.push(format!("{skip} bytes of {kind} at {at}"));
                at += skip;
            }
        }
    }
    words.extend(run.map(|(first, last)| format!("{first}..={last}")));
    words.join(", ")
}
