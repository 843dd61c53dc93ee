//! `forebay cat`: records printed without consuming them.
//!
//! Invariants: nothing is written to the buffer, and no lock is taken; each record
//! is printed once, in order, also while other processes write and read.

use crate::args::FramingOptions;
use crate::args::counting::ReadCountingOptions;
use crate::args::sizes;
use crate::buffer::losses::{MAY_COUNT_EVENTS, Steps, stepped_over};
use crate::buffer::opening::REPORTS_MAX;
use crate::buffer::steps;
use crate::buffer::watch::Watch;
use crate::failure::{Failure, Outcome, Result};
use crate::io::framing::Framing;
use crate::io::sink::{Sink, Written};
use crate::io::standard::{Stream, require};
use crate::io::translator::{Translated, Translator};
use crate::output::{count, is_watched, note};
use crate::stop::Stop;
use crate::vector::{self, Shown};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueHint;
use forebay::format::file_id::file_name;
use forebay::{RecordsOptions, StoredRecord};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes collected before they are written.
const WRITE_LEN: usize = 256 << 10;
/// How often the buffer is checked for changes, with `--follow`.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay cat spool | less
      what a reader would get, one record a line
  forebay cat spool --all --from 1000 --json | jq -r .payload
      also what is acknowledged and still on disk, from record 1000 on
  forebay cat /var/lib/vector/buffer/v2/sink --decode --follow
      the events in a buffer of Vector, as JSON, and those to come
  forebay cat spool --translate 'protoc --decode_raw'
      payloads as another program shows them

With --json, each record is an object on a line of its own: id, events,
metadata, and payload, or payload_base64 when the payload is not UTF-8.

With --translate, the shell runs CMD once for each record: the payload is its
standard input, and what it prints is shown in place of the payload, without a
newline at its end. FOREBAY_RECORD_ID and FOREBAY_METADATA are set for it. A
process for each record costs a millisecond or so; as many run at once as there
are processors, and records stay in order. A program that reads many records is
faster behind a pipe: forebay cat spool | CMD. A record on which CMD fails is
named and left out. A signal is passed on to the programs that still run, and half
a second later they are killed, with all that they have started.

With --decode, each event of a record that Vector wrote is a line of JSON; other
records are shown as with --json. Secrets in Vector's metadata are not printed
unless asked for by name.

Works while another process has the buffer open, and never writes to it.

The exit status is
  0        when everything was printed; a closed pipe is no error
  1        when events are missing from what was to be printed, or CMD failed on
           a record
  2        on errors
  128 + n  after signal n (SIGINT, SIGTERM or SIGHUP)")]
pub(crate) struct Args {
    /// The buffer's directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,

    #[command(flatten)]
    counting: ReadCountingOptions,

    /// Begin with the record that holds this event
    #[arg(long, value_name = "ID", value_parser = sizes::number, allow_hyphen_values = true)]
    from: Option<u64>,

    /// Print acknowledged records that are still on disk as well
    #[arg(long)]
    all: bool,

    /// End after N records
    #[arg(long, value_name = "N", value_parser = sizes::number, allow_hyphen_values = true)]
    max: Option<u64>,

    /// At the end, wait for more records
    #[arg(long)]
    follow: bool,

    #[command(flatten)]
    framing: FramingOptions,

    /// Print each record as a JSON object on a line of its own
    #[arg(long, conflicts_with_all = ["framing", "delimiter"])]
    json: bool,

    /// Print the events in records that Vector wrote, as JSON
    ///
    /// Together with --json, they are the key `decoded` of the record.
    #[arg(long, conflicts_with_all = ["framing", "delimiter"])]
    decode: bool,

    /// Show what a program makes of each payload
    #[arg(long, value_name = "CMD", conflicts_with = "decode",
        value_hint = ValueHint::CommandString)]
    translate: Option<String>,

    /// Print events as {"event": …, "metadata": …}
    #[arg(long, requires = "decode")]
    with_metadata: bool,

    /// Print the value of this secret in the metadata; may be repeated
    #[arg(long, value_name = "NAME", requires = "with_metadata")]
    with_secret: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    let mut cat = Cat {
        args,
        framing: args.framing.framing()?,
        shown: Shown {
            metadata: args.with_metadata,
            secrets: args.with_secret.iter().cloned().collect(),
        },
        translator: args
            .translate
            .as_deref()
            .map(|command| Translator::new(command, stop.clone())),
        untranslated: 0,
        sink: Sink::stdout(stop.clone()),
        stop: stop.clone(),
        out: Vec::new(),
        left: args.max.unwrap_or(u64::MAX),
        next_id: args.from,
        lost_events: 0,
        undecoded: 0,
        is_empty: true,
    };
    let written = cat.work()?;
    if let (Some(id), true, Written::All) = (args.from, cat.is_empty && cat.left > 0, written)
        && is_watched()
    {
        note(format!(
            "nothing is printed: {} holds no {}record with event {id} or a later one",
            args.directory.display(),
            if args.all { "" } else { "unread " },
        ));
    }
    if cat.undecoded > 0 {
        note(format!(
            "{} not decoded: no events of Vector",
            count(cat.undecoded, "record")
        ));
    }
    if cat.untranslated > 0 {
        note(format!(
            "the program failed on {}, left out above",
            count(cat.untranslated, "record")
        ));
    }
    Ok(match (written, stop.signal()) {
        (Written::Stopped, Some(signal)) => Outcome::Stopped(signal),
        _ => Outcome::Fine.with_findings(cat.lost_events + cat.untranslated > 0),
    })
}

/// A record for programs: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Record<'a> {
    id: u64,
    events: u64,
    metadata: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded: Option<Vec<serde_json::Value>>,
}

struct Cat<'a> {
    args: &'a Args,
    framing: Framing,
    shown: Shown,
    translator: Option<Translator>,
    /// Records on which the program failed.
    untranslated: u64,
    sink: Sink,
    stop: Stop,
    out: Vec<u8>,
    /// Records that may still be printed.
    left: u64,
    /// The id of the event to continue with.
    next_id: Option<u64>,
    lost_events: u64,
    undecoded: u64,
    /// No record was there to be printed.
    is_empty: bool,
}

impl Cat<'_> {
    fn work(&mut self) -> Result<Written> {
        let mut watch = Watch::new(&self.args.directory);
        let mut all = self.args.all;
        loop {
            let written = self.list(all)?;
            if written != Written::All || !self.args.follow || self.left == 0 {
                return Ok(written);
            }
            // Records that are acknowledged before they were printed must not be missed.
            all = true;
            while !watch.has_changed() {
                self.stop.wait(FOLLOW_INTERVAL);
                if self.stop.is_set() {
                    return Ok(Written::Stopped);
                }
                if self.sink.is_closed() {
                    return Ok(Written::Closed);
                }
            }
        }
    }

    /// Prints the records that are there now.
    fn list(&mut self, all: bool) -> Result<Written> {
        let mut options = RecordsOptions::default()
            .all(all)
            .event_counter(steps::counter(self.args.counting, &self.args.directory)?);
        if let Some(id) = self.next_id {
            options = options.from(id);
        }
        let mut records = options.records(&self.args.directory)?;
        let mut steps = Steps::of(&self.args.directory);
        if self.args.counting.is_by_ids() {
            steps.are_losses();
        }
        let mut lost = 0;
        while self.left > 0
            && let Some(record) = records.next()
        {
            let record = record?;
            let step = records.lost().events - lost;
            if step > 0 {
                lost += step;
                steps.before_record(&file_name(record.file_id), record.offset, step);
            }
            self.left -= 1;
            self.is_empty = false;
            self.next_id = Some(record.id.saturating_add(record.events));
            match self.show(record)? {
                Written::All => {}
                other => return Ok(other),
            }
        }
        match self.finish_translations(false)? {
            Written::All => {}
            other => return Ok(other),
        }
        let skipped = records.lost();
        if skipped.events > 0 || skipped.spans > 0 {
            self.lost_events += skipped.events;
        }
        steps.at_end(skipped.events - lost);
        if skipped.events > 0 && skipped.spans == 0 {
            let events = count(skipped.events, "event");
            note(match steps.may_be_counts() {
                true => format!(
                    "ids step over {events} between records that are whole; {MAY_COUNT_EVENTS}"
                ),
                false => format!("{events} missing; `forebay verify` tells where"),
            });
        } else if skipped.spans > 0 {
            note(stepped_over(skipped.spans, skipped.bytes, skipped.events));
        }
        self.flush()
    }

    fn show(&mut self, record: StoredRecord) -> Result<Written> {
        let Some(translator) = &mut self.translator else {
            self.print(&record)?;
            return match self.out.len() >= WRITE_LEN {
                true => self.flush(),
                false => Ok(Written::All),
            };
        };
        translator.start(record)?;
        self.finish_translations(true)
    }

    /// Waits for programs, only until another one may be started if `is_going_on`, and prints
    /// what they have printed.
    fn finish_translations(&mut self, is_going_on: bool) -> Result<Written> {
        while let Some(translator) = &mut self.translator
            && (translator.is_full() || !is_going_on)
            && let Some(translated) = translator.finish_oldest()?
        {
            match translated {
                Translated::Record(mut record) => {
                    if let Framing::Delimited(delimiter) = self.framing
                        && record.payload.last() == Some(&delimiter)
                    {
                        record.payload.truncate(record.payload.len() - 1);
                    }
                    self.print(&record)?;
                    match self.flush()? {
                        Written::All => {}
                        other => return Ok(other),
                    }
                }
                Translated::Failed(id, how) => {
                    self.untranslated += 1;
                    if self.untranslated <= REPORTS_MAX {
                        note(format!("record {id}: the program failed on it: {how}"));
                    }
                }
                Translated::Stopped => return Ok(Written::Stopped),
            }
        }
        Ok(Written::All)
    }

    fn flush(&mut self) -> Result<Written> {
        let written = self.sink.write(&self.out)?;
        self.out.clear();
        Ok(written)
    }

    fn print(&mut self, record: &StoredRecord) -> Result<()> {
        let decoded = match self.args.decode {
            true => vector::decode_events(record.metadata, &record.payload, &self.shown),
            false => None,
        };
        self.undecoded += u64::from(self.args.decode && decoded.is_none());
        match decoded {
            Some(events) if !self.args.json => {
                for event in events {
                    self.line(&event);
                }
            }
            decoded if self.args.json || self.args.decode => {
                let text = std::str::from_utf8(&record.payload).ok();
                self.line(&Record {
                    id: record.id,
                    events: record.events,
                    metadata: record.metadata,
                    payload: text,
                    payload_base64: text.is_none().then(|| STANDARD.encode(&record.payload)),
                    decoded,
                });
            }
            _ => self
                .framing
                .write(&record.payload, &mut self.out)
                .map_err(|error| Failure::new(format!("record {}: {error}", record.id)))?,
        }
        Ok(())
    }

    fn line(&mut self, value: &impl Serialize) {
        self.out
            .extend_from_slice(crate::output::json(value).as_bytes());
        self.out.push(b'\n');
    }
}
