//! Which finding a lost event is counted in.

use forebay::FindingKind::{
    BadLength, Checksum, IdGap, LedgerAhead, MissingFile, StaleFile, TornTail, ZeroTail,
};
use forebay::{Severity, VerifyOptions};

use crate::recovery::made::{Expected, FRAME_LEN, Made, frames, without};

#[test]
fn each_damaged_record_is_a_finding_of_its_own() {
    let made = Made::one_file();
    for n in [1, 2, 5] {
        made.change(0, |bytes| bytes[n * FRAME_LEN + 20] ^= 1);
    }
    assert_eq!(
        made.verified(),
        [(Checksum, 1), (Checksum, 1), (Checksum, 1)]
    );
}

#[test]
fn a_gap_without_damage_is_a_finding_where_it_shows() {
    let made = Made::of(&[(0, 1..=3)]);
    made.change(0, |bytes| bytes.extend(frames(6..=7)));
    made.ledger(|ledger| ledger.writer_next_record_id = 8);
    assert_eq!(made.verified(), [(IdGap, 2)]);
}

#[test]
fn damage_at_the_end_of_a_file_shares_the_gap_with_a_missing_one() {
    let made = Made::three_files();
    made.change(4, |bytes| bytes[6 * FRAME_LEN + 20] ^= 1);
    made.remove("buffer-data-5.dat");
    assert_eq!(made.verified(), [(Checksum, 1), (MissingFile, 7)]);
}

#[test]
fn a_torn_tail_is_normal_at_the_end_of_the_data_and_damage_where_it_loses_events_before() {
    let made = Made::three_files();
    made.change(6, |bytes| bytes.truncate(5 * FRAME_LEN + 9));
    made.change(5, |bytes| bytes.truncate(5 * FRAME_LEN + 9));
    let verification = VerifyOptions::default().verify(made.dir.path()).unwrap();
    let findings: Vec<_> = verification
        .findings
        .iter()
        .map(|f| (f.kind, f.severity, f.events_lost))
        .collect();
    assert_eq!(
        findings,
        [
            (TornTail, Severity::Damage, 2),
            (TornTail, Severity::Normal, 2)
        ]
    );
    assert!(!verification.is_clean());
}

#[test]
fn what_a_crash_leaves_is_clean() {
    let made = Made::three_files();
    made.change(6, |bytes| bytes.resize(bytes.len() + 512, 0));
    made.ledger(|ledger| ledger.writer_next_record_id = 17);
    let verification = VerifyOptions::default().verify(made.dir.path()).unwrap();
    assert_eq!(verification.findings.len(), 2);
    assert!(verification.is_clean());
}

#[test]
fn damage_in_the_acknowledged_part_loses_nothing() {
    let made = Made::three_files();
    made.change(4, |bytes| bytes[2 * FRAME_LEN + 20] ^= 1);
    made.ledger(|ledger| ledger.reader_last_record_id = 5);
    assert_eq!(made.verified(), [(Checksum, 0)]);
}

#[test]
fn a_last_file_that_is_empty_does_not_explain_what_the_ledger_knows() {
    let made = Made::three_files();
    made.write("buffer-data-7.dat", &[]);
    made.ledger(|ledger| {
        ledger.writer_file_id = 7;
        ledger.writer_next_record_id += 2;
    });
    assert_eq!(made.verified(), [(LedgerAhead, 2)]);
}

/// Older versions moved records after a failed sync: a file may begin with records that the file
/// before it still holds.
#[test]
fn records_that_the_next_file_begins_with_again_are_normal() {
    let made = Made::three_files();
    made.write("buffer-data-6.dat", &frames(12..=21));
    let verification = VerifyOptions::default().verify(made.dir.path()).unwrap();
    assert!(verification.is_clean());
    let finding = &verification.findings[0];
    assert_eq!(
        (finding.kind, finding.severity),
        (StaleFile, Severity::Normal)
    );
    assert_eq!((finding.offset, finding.length), (0, 3 * FRAME_LEN as u64));
    assert_eq!(verification.records, 21);
}

#[test]
fn a_data_file_of_nothing_but_noise_or_zeros_is_one_finding() {
    for (byte, kind) in [(0, ZeroTail), (0x5a, BadLength)] {
        let made = Made::one_file();
        made.change(0, |bytes| bytes.fill(byte));
        assert_eq!(made.verified(), [(kind, 7)]);
    }
}

/// At most 10,000 findings are listed; all lost events are counted.
#[test]
fn findings_are_bounded_and_losses_are_not() {
    let made = Made::of(&[(0, 1..=24_001)]);
    made.change(0, |bytes| {
        for n in (0..24_001).step_by(2) {
            bytes[n * FRAME_LEN + 20] ^= 1;
        }
    });
    let verification = VerifyOptions::default().verify(made.dir.path()).unwrap();
    assert_eq!(verification.findings.len(), 10_000);
    assert_eq!(verification.findings_omitted, 2_001);
    assert_eq!(verification.events_lost, 12_001);
    assert_eq!(verification.records, 12_000);
    assert!(!verification.is_clean());
}

/// Opening cuts a torn tail off before the reader judges the delimiters before it. A delimiter
/// that led exactly to the end of that tail seemed to hold all records up to there, so `verify`
/// and the listing counted its record as lost; the reader delivers it.
#[test]
fn a_delimiter_that_leads_to_the_end_of_a_torn_tail_loses_nothing() {
    let made = Made::one_file();
    made.change(0, |bytes| {
        bytes.extend(&frames(8..=8)[..24]);
        let len = (bytes.len() - 3 * FRAME_LEN - 8) as u64;
        bytes[3 * FRAME_LEN..][..8].copy_from_slice(&len.to_be_bytes());
    });
    made.check(&Expected {
        ids: (1..=7).collect(),
        lost: 0,
        next_id: 8,
    });
}

/// The reader knows from the newest file which ids were written, whatever the ledger says. With
/// a ledger that is behind, `verify` and the listing took the records between a damaged one and
/// the torn end of an older file for the payload of one torn record; the reader delivers them.
#[test]
fn a_ledger_that_is_behind_hides_no_records_of_an_older_file_with_a_torn_end() {
    let made = Made::three_files();
    made.change(5, |bytes| {
        bytes.extend(&frames(15..=15)[..24]);
        bytes[2 * FRAME_LEN..][..8].copy_from_slice(&(1u64 << 20).to_be_bytes());
        bytes[3 * FRAME_LEN - 32..][..32].fill(0xa5);
    });
    made.ledger(|ledger| ledger.writer_next_record_id = 8);
    made.check(&Expected {
        ids: without(1..=21, &[10]),
        lost: 1,
        next_id: 22,
    });
}

/// Damage among the acknowledged records explains no loss after them, and does not extend to
/// them: the reader begins after it.
#[test]
fn damage_before_the_unread_records_has_no_part_in_what_is_lost() {
    let made = Made::one_file();
    made.change(0, |bytes| {
        bytes[2 * FRAME_LEN + 20] ^= 1;
        bytes.drain(4 * FRAME_LEN..5 * FRAME_LEN);
    });
    made.ledger(|ledger| ledger.reader_last_record_id = 4);
    assert_eq!(made.verified(), [(Checksum, 0), (IdGap, 1)]);
    made.check(&Expected {
        ids: vec![6, 7],
        lost: 1,
        next_id: 8,
    });
}

/// Opening cuts the torn tail off; the record before it, whose root is zeros, is not part of it.
/// What is left looks like a torn tail as well, and the reader reports it as damage.
#[test]
fn only_what_opening_cuts_off_is_a_normal_tail() {
    let made = Made::one_file();
    made.change(0, |bytes| {
        let end = bytes.len();
        bytes[end - 32..].fill(0);
        bytes.extend(&frames(8..=8)[..8]);
    });
    let verification = VerifyOptions::default().verify(made.dir.path()).unwrap();
    let severities: Vec<_> = verification.findings.iter().map(|f| f.severity).collect();
    assert_eq!(severities, [Severity::Damage, Severity::Normal]);
    made.check(&Expected {
        ids: (1..=6).collect(),
        lost: 1,
        next_id: 8,
    });
}
