//! The results: medians, kept as JSON, shown as a table.
//!
//! Invariant: the table and the plot are made only from the contents of the JSON file and
//! of the peers' [`About`](crate::peer::About), so that both can be made again without
//! measuring.

use crate::peer::Result;
use crate::peers;
use crate::work::{Sample, Work};
use forebay_bench::figures::metric;
use forebay_bench::measure::median;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How [`Row::missing`] begins if the peer should have been able to do the work.
pub(crate) const FAILED: &str = "failed";

/// One measurement: its sample, or why there is none.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) peer: &'static str,
    pub(crate) work: Work,
    pub(crate) payload_len: usize,
    pub(crate) outcome: std::result::Result<Sample, String>,
}

/// All results of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) date: String,
    pub(crate) machine: String,
    pub(crate) toolchain: String,
    pub(crate) commit: String,
    pub(crate) rounds: u32,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) results: Vec<Row>,
}

/// The figures of one peer, work and payload length.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) peer: String,
    pub(crate) version: String,
    pub(crate) work: Work,
    pub(crate) payload_bytes: usize,
    /// Medians; `None` if there is no figure.
    pub(crate) records_per_s: Option<f64>,
    pub(crate) synced_records_per_s: Option<f64>,
    pub(crate) read_records_per_s: Option<f64>,
    /// Why there is no figure.
    pub(crate) missing: Option<String>,
    /// The samples that the medians are taken of.
    pub(crate) samples: Vec<Sample>,
}

/// A column of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Append,
    AppendSynced,
    Batch,
    BatchSynced,
    Read,
    Durable,
    DurableSixteen,
}

impl Column {
    pub(crate) const ALL: [Self; 7] = [
        Self::Append,
        Self::AppendSynced,
        Self::Batch,
        Self::BatchSynced,
        Self::Read,
        Self::Durable,
        Self::DurableSixteen,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::AppendSynced => "append, then sync",
            Self::Batch => "batches of 1,000",
            Self::BatchSynced => "batches, then sync",
            Self::Read => "read and acknowledge",
            Self::Durable => "durable, 1 producer",
            Self::DurableSixteen => "durable, 16 producers",
        }
    }
}

impl Row {
    pub(crate) fn new(
        peer: &str,
        work: Work,
        payload_bytes: usize,
        outcomes: Vec<std::result::Result<Sample, String>>,
    ) -> Self {
        let mut samples = Vec::new();
        let mut missing = None;
        for outcome in outcomes {
            match outcome {
                Ok(sample) => samples.push(sample),
                Err(why) => missing = Some(why),
            }
        }
        let rate = |of: &dyn Fn(&Sample) -> Option<(u64, f64)>| {
            median(samples.iter().filter_map(of).map(|(n, s)| n as f64 / s))
        };
        // If any round failed, there is no figure.
        let whole = missing.is_none();
        Self {
            peer: peer.to_owned(),
            version: version(peer).unwrap_or_default(),
            work,
            payload_bytes,
            records_per_s: rate(&|s| Some((s.records, s.seconds))).filter(|_| whole),
            synced_records_per_s: rate(&|s| Some((s.records, s.synced_seconds?))).filter(|_| whole),
            read_records_per_s: rate(&|s| Some((s.read_records, s.read_seconds))).filter(|_| whole),
            missing,
            samples,
        }
    }
}

/// Groups outcomes into rows.
pub(crate) fn rows(taken: Vec<Taken>) -> Vec<Row> {
    let mut by_case: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for Taken {
        peer,
        work,
        payload_len,
        outcome,
    } in taken
    {
        let place = peers::ALL.iter().position(|about| about.name == peer);
        by_case
            .entry((payload_len, place, work, peer))
            .or_default()
            .push(outcome);
    }
    by_case
        .into_iter()
        .map(|((payload_len, _, work, peer), outcomes)| Row::new(peer, work, payload_len, outcomes))
        .collect()
}

impl Report {
    pub(crate) fn payloads(&self) -> Vec<usize> {
        let mut payloads: Vec<_> = self.results.iter().map(|row| row.payload_bytes).collect();
        payloads.sort_unstable();
        payloads.dedup();
        payloads
    }

    fn row(&self, peer: &str, work: Work, payload_bytes: usize) -> Option<&Row> {
        self.results
            .iter()
            .find(|row| row.peer == peer && row.work == work && row.payload_bytes == payload_bytes)
    }

    /// A peer's figure in a column, in records per second. For reading, it is the better of
    /// two figures: of records that were appended singly and in batches.
    pub(crate) fn figure(&self, peer: &str, column: Column, payload_bytes: usize) -> Option<f64> {
        let row = |work| self.row(peer, work, payload_bytes);
        let read = |work| row(work)?.read_records_per_s;
        match column {
            Column::Append => row(Work::Append)?.records_per_s,
            Column::AppendSynced => row(Work::Append)?.synced_records_per_s,
            Column::Batch => row(Work::AppendBatch)?.records_per_s,
            Column::BatchSynced => row(Work::AppendBatch)?.synced_records_per_s,
            Column::Read => [read(Work::Append), read(Work::AppendBatch)]
                .into_iter()
                .flatten()
                .reduce(f64::max),
            Column::Durable => row(Work::Durable)?.records_per_s,
            Column::DurableSixteen => row(Work::DurableSixteen)?.records_per_s,
        }
    }

    /// The peers that were measured, in the table's order.
    pub(crate) fn peers(&self) -> Vec<&'static crate::peer::About> {
        let mut peers: Vec<_> = peers::ALL.to_vec();
        peers.retain(|about| self.results.iter().any(|row| row.peer == about.name));
        peers
    }

    /// How many rows have no figure although the peer should be able to do the work.
    pub(crate) fn failures(&self) -> usize {
        let missing = self.results.iter().filter_map(|row| row.missing.as_ref());
        missing.filter(|why| why.starts_with(FAILED)).count()
    }

    /// The tables, as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "![Records per second of forebay and its peers](img/peers.svg)\n"
        )?;
        writeln!(
            text,
            "Measured on {} with forebay {}: {}; {}. Medians of {} rounds; appends end after \
             {} MiB of payload or {} s.\n",
            self.date,
            self.commit,
            self.machine,
            self.toolchain,
            self.rounds,
            self.bytes >> 20,
            self.seconds,
        )?;
        for payload in self.payloads() {
            writeln!(text, "Records per second, payloads of {payload} B:\n")?;
            self.write_figures(text, payload)?;
            writeln!(text)?;
        }
        writeln!(
            text,
            "\\* it has no way to acknowledge or remove what was read. † it takes one caller at \
             a time; the benchmark commits for all who wait. – there is no figure: in the columns \
             \"then sync\" the peer cannot be asked for that, else:\n"
        )?;
        self.write_missing(text)?;
        writeln!(text, "What stands behind the figures:\n")?;
        writeln!(
            text,
            "| peer | kind | checks on reading | acknowledges | syncs | remarks |\n\
             | --- | --- | --- | --- | --- | --- |"
        )?;
        for about in self.peers() {
            let version = version(about.name).unwrap_or_default();
            writeln!(
                text,
                "| {} {version} | {} | {} | {} | {} | {} |",
                about.name, about.kind, about.sums, about.acks, about.syncs, about.remarks
            )?;
        }
        Ok(())
    }

    /// Why figures are missing, peer by peer.
    fn write_missing(&self, text: &mut String) -> std::fmt::Result {
        for about in self.peers() {
            let mut reasons = Vec::new();
            for row in self.results.iter().filter(|row| row.peer == about.name) {
                let reason = match &row.missing {
                    Some(why) if why.starts_with(FAILED) => {
                        format!("{:?} of {} B {why}", row.work, row.payload_bytes)
                    }
                    Some(why) => why.clone(),
                    None => continue,
                };
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
            if !reasons.is_empty() {
                writeln!(text, "- {}: {}", about.name, reasons.join("; "))?;
            }
        }
        writeln!(text)
    }

    fn write_figures(&self, text: &mut String, payload: usize) -> std::fmt::Result {
        write!(text, "| peer |")?;
        for column in Column::ALL {
            write!(text, " {} |", column.name())?;
        }
        write!(text, "\n| --- |{}", " --: |".repeat(Column::ALL.len()))?;
        for about in self.peers() {
            let ours = about.name == "forebay";
            let bold = if ours { "**" } else { "" };
            write!(text, "\n| {bold}{}{bold} |", about.name)?;
            for column in Column::ALL {
                let Some(figure) = self.figure(about.name, column, payload) else {
                    write!(text, " – |")?;
                    continue;
                };
                let mark = match column {
                    Column::DurableSixteen if about.is_supplied() => " †",
                    Column::Read if about.acks.starts_with("none") => " *",
                    _ => "",
                };
                write!(text, " {bold}{}{bold}{mark} |", metric(figure))?;
            }
        }
        writeln!(text)
    }
}

/// The version of a package that this program was built with, from the lock file.
fn version(package: &str) -> Option<String> {
    version_in(include_str!("../Cargo.lock"), package)
}

fn version_in(lock: &str, package: &str) -> Option<String> {
    // If the lock file has several versions of a package, this package's own dependencies
    // name the one that is used directly.
    let named = format!(" \"{package} ");
    let own = lock
        .split("[[package]]")
        .find(|section| section.contains("\nname = \"forebay-peers\"\n"))?;
    if let Some((_, rest)) = own.split_once(&named) {
        return Some(rest.split_once('"')?.0.to_owned());
    }
    let section = lock
        .split("[[package]]")
        .find(|section| section.contains(&format!("\nname = \"{package}\"\n")))?;
    let (_, rest) = section.split_once("version = \"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// Puts `content` between the markers of `page`.
///
/// # Errors
///
/// The markers are not there, or not in this order.
pub(crate) fn between_markers(page: &str, content: &str) -> Result<String> {
    const BEGIN: &str = "<!-- peers:begin -->\n";
    const END: &str = "<!-- peers:end -->";
    let split = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = split else {
        let (begin, end) = (BEGIN.trim(), END);
        return Err(format!("the page needs lines {begin} and {end}, in this order").into());
    };
    Ok(format!(
        "{before}{BEGIN}\n{}\n\n{END}{after}",
        content.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(records: u64) -> Sample {
        Sample {
            records,
            seconds: 2.0,
            synced_seconds: None,
            read_records: records,
            read_seconds: 1.0,
        }
    }

    #[test]
    fn figures_are_medians_of_all_rounds_or_none() {
        let outcomes = vec![Ok(sample(10)), Ok(sample(40)), Ok(sample(20))];
        let row = Row::new("redb", Work::Append, 256, outcomes);
        assert_eq!(row.records_per_s, Some(10.0));
        assert_eq!(row.synced_records_per_s, None);
        assert_eq!(row.read_records_per_s, Some(20.0));
        let outcomes = vec![Ok(sample(10)), Err("failed: lost".to_owned())];
        let row = Row::new("redb", Work::Append, 256, outcomes);
        assert_eq!(row.records_per_s, None);
        assert_eq!(row.missing.as_deref(), Some("failed: lost"));
    }

    #[test]
    fn every_peer_has_a_version() {
        for about in peers::ALL {
            let version = version(about.name).unwrap_or_default();
            assert!(version.contains('.'), "{}: {version:?}", about.name);
        }
    }

    #[test]
    fn of_several_versions_the_one_in_use_counts() {
        let lock = "\n[[package]]\nname = \"forebay-peers\"\ndependencies = [\n \"a 2.0.0\",\n \
                    \"b\",\n]\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\n\
                    name = \"a\"\nversion = \"2.0.0\"\n\n[[package]]\nname = \"b\"\n\
                    version = \"3.0.0\"\n";
        assert_eq!(version_in(lock, "a").as_deref(), Some("2.0.0"));
        assert_eq!(version_in(lock, "b").as_deref(), Some("3.0.0"));
        assert_eq!(version_in(lock, "c"), None);
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = "a\n<!-- peers:begin -->\nold\n<!-- peers:end -->\nb\n";
        let once = between_markers(page, "new\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- peers:begin -->\n\nnew\n\n<!-- peers:end -->\nb\n"
        );
        assert_eq!(between_markers(&once, "new").unwrap(), once);
        assert!(between_markers("no markers", "new").is_err());
    }

    #[test]
    fn a_report_reads_as_it_was_written_and_shows_every_peer() {
        let results = peers::ALL
            .iter()
            .map(|about| Row::new(about.name, Work::Append, 256, vec![Ok(sample(10))]))
            .collect();
        let report = Report {
            date: "2026-11-23".to_owned(),
            machine: "a machine".to_owned(),
            toolchain: "a toolchain".to_owned(),
            commit: "a commit".to_owned(),
            rounds: 1,
            bytes: 1 << 20,
            seconds: 1.0,
            results,
        };
        let json = serde_json::to_string(&report).unwrap();
        let again: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(report.markdown(), again.markdown());
        for about in peers::ALL {
            assert!(report.markdown().contains(about.name));
        }
        assert!(crate::plot::svg(&report).contains("raft-engine"));
    }
}
