//! Forebay beside the queues, logs and stores that a Rust developer could pick
//! from crates.io, doing the same work.
//!
//! [`peers`] has a file for each of them behind the trait in [`peer`], [`work`]
//! is one measurement, [`rounds`] takes turns among all, [`report`] and [`plot`]
//! show what came out. What is not about peers is shared with `forebay bench`, in
//! the crate `forebay-bench`. How to run it, and what the figures mean, stands in
//! `docs/peers.md` of the repository.

mod payload;
mod peer;
mod peers;
mod plot;
mod report;
mod rounds;
mod work;

use clap::{Parser, ValueEnum as _};
use forebay_bench::machine::Machine;
use peer::Result;
use report::Report;
use rounds::Plan;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use work::{Amount, Work};

/// What is written, from the repository's root.
const RESULTS: &str = "bench/results/peers.json";
const PLOT: &str = "docs/img/peers.svg";
const PAGE: &str = "docs/peers.md";

/// Measures Forebay and its peers in turns, and writes the table and the plot
/// of docs/peers.md
#[derive(Debug, Parser)]
struct Options {
    /// Where to measure: a directory is made there, and removed afterwards
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// How often every peer gets its turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// The most a measurement appends, in MiB of payload
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    size: u64,
    /// The longest a measurement appends; durable appends take this long
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    time: f64,
    /// Payload lengths, in bytes
    #[arg(long, value_delimiter = ',', default_values_t = [256, 4096])]
    payload: Vec<usize>,
    /// These peers only; what comes out is shown and not kept
    #[arg(long, value_delimiter = ',')]
    peer: Vec<String>,
    /// These works only; what comes out is shown and not kept
    #[arg(long, value_delimiter = ',', value_enum)]
    work: Vec<Work>,
    /// One small round that shows that everything comes back; its figures mean
    /// nothing and are not kept
    #[arg(long)]
    quick: bool,
    /// Do not measure: make the table and the plot again from the results
    #[arg(long, conflicts_with = "quick")]
    render: bool,
    /// Show what comes out, and do not keep it
    #[arg(long)]
    dry: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result = match arguments.next() {
        Some(first) if first == "--one" => one(arguments),
        _ => run(&Options::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A measurement in a process of its own, as [`rounds`] asks for it.
fn one(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let mut next = || arguments.next().ok_or("--one is for this program itself");
    let (name, what) = (next()?, next()?);
    let (dir, result) = (PathBuf::from(next()?), PathBuf::from(next()?));
    let name = name.to_string_lossy();
    let about = peers::named(&name).ok_or_else(|| format!("there is no peer {name}"))?;
    let (work, payload_len, bytes, seconds) = serde_json::from_str(&what.to_string_lossy())?;
    let amount = Amount {
        payload_len,
        bytes,
        time: Duration::try_from_secs_f64(seconds)?,
    };
    let sample = work::measure(about, work, amount, &dir)?;
    Ok(fs::write(result, serde_json::to_vec(&sample)?)?)
}

fn run(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let report: Report = match options.render {
        true => serde_json::from_slice(&fs::read(root.join(RESULTS))?)?,
        false => measure(options, &root)?,
    };
    let table = report.markdown();
    println!("{table}");
    keep(options, &root, &report, &table)?;
    match report.failures() {
        0 => Ok(()),
        failures => Err(format!("{failures} measurements failed").into()),
    }
}

/// Writes what came out to where it is shown.
fn keep(options: &Options, root: &Path, report: &Report, table: &str) -> Result<()> {
    let whole = options.peer.is_empty() && options.work.is_empty();
    if options.dry || options.quick || !whole {
        return Ok(());
    }
    let (results, plot, page) = (root.join(RESULTS), root.join(PLOT), root.join(PAGE));
    for path in [&results, &plot] {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
    }
    fs::write(&results, serde_json::to_string_pretty(report)? + "\n")?;
    fs::write(&plot, plot::svg(report))?;
    let text = report::between_markers(&fs::read_to_string(&page)?, table)?;
    fs::write(&page, text)?;
    Ok(())
}

fn measure(options: &Options, root: &Path) -> Result<Report> {
    let chosen = |name: &&str| options.peer.is_empty() || options.peer.iter().any(|p| p == name);
    if let Some(unknown) = options.peer.iter().find(|p| peers::named(p).is_none()) {
        return Err(format!("there is no peer {unknown}").into());
    }
    let works = match options.work.is_empty() {
        true => Work::value_variants().to_vec(),
        false => options.work.clone(),
    };
    let (rounds, mib, seconds) = match options.quick {
        true => (1, 4, 0.2),
        false => (options.rounds, options.size, options.time),
    };
    let plan = Plan {
        peers: peers::ALL
            .into_iter()
            .filter(|about| chosen(&about.name))
            .collect(),
        works,
        payloads: options.payload.clone(),
        rounds,
        bytes: mib << 20,
        time: Duration::try_from_secs_f64(seconds)?,
        dir: options.dir.clone(),
    };
    let mut taken = Vec::new();
    rounds::run(&plan, |outcome| taken.push(outcome))?;
    Ok(Report {
        date: words(root, "date", &["-u", "+%F"]),
        machine: Machine::this(&options.dir).line(),
        toolchain: words(root, "rustc", &["--version"]),
        commit: words(root, "git", &["describe", "--always", "--dirty"]),
        rounds,
        bytes: plan.bytes,
        seconds,
        results: report::rows(taken),
    })
}

/// What a command says, as far as it does.
fn words(root: &Path, command: &str, arguments: &[&str]) -> String {
    let said = Command::new(command)
        .args(arguments)
        .current_dir(root)
        .output();
    said.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
