//! Measures Forebay beside the queues, logs and stores that a Rust developer could pick
//! from crates.io, at the same work.
//!
//! [`peers`] has a file for each of them, which implements the trait in [`peer`]; [`work`]
//! does one measurement, [`rounds`] measures all peers in turns, [`report`] and [`plot`]
//! show the results. Parts that are not about peers are shared with `forebay bench`, in
//! the crate `forebay-bench`. `docs/peers.md` of the repository says how to run it and
//! what the figures mean.

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

/// The files that are written, relative to the repository's root.
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
    /// How often every peer is measured
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// The most a measurement appends, in MiB of payload
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    size: u64,
    /// The longest time a measurement appends; durable appends take this long
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    time: f64,
    /// Payload lengths, in bytes
    #[arg(long, value_delimiter = ',', default_values_t = [256, 4096])]
    payload: Vec<usize>,
    /// Measure these peers only; the results are shown and not kept
    #[arg(long, value_delimiter = ',')]
    peer: Vec<String>,
    /// Measure these works only; the results are shown and not kept
    #[arg(long, value_delimiter = ',', value_enum)]
    work: Vec<Work>,
    /// Do one small round that shows that all records come back; its figures
    /// mean nothing and are not kept
    #[arg(long)]
    quick: bool,
    /// Do not measure: make the table and the plot again from the results
    #[arg(long, conflicts_with = "quick")]
    render: bool,
    /// Show the results, and do not keep them
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

/// One measurement in a process of its own, which [`rounds`] starts with `--one`.
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

/// Writes the plot, the table and, if they were measured now, the results to their files.
fn keep(options: &Options, root: &Path, report: &Report, table: &str) -> Result<()> {
    let whole = options.peer.is_empty() && options.work.is_empty();
    if options.dry || options.quick || !whole {
        return Ok(());
    }
    let (results, plot, page) = (root.join(RESULTS), root.join(PLOT), root.join(PAGE));
    for path in [&results, &plot] {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
    }
    // With `--render` the report was read from the results, and the last digits of some of
    // its figures differ from the file's.
    if !options.render {
        fs::write(&results, serde_json::to_string_pretty(report)? + "\n")?;
    }
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

/// The output of a command; `unknown` if it cannot be run.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `--render` once wrote the results again, and figures changed in their last digit.
    #[test]
    fn rendering_leaves_the_results_as_they_are() {
        let results = include_str!("../results/peers.json");
        let page = "<!-- peers:begin -->\n<!-- peers:end -->\n";
        let root = std::env::temp_dir().join(format!("forebay-peers-{}", std::process::id()));
        for (path, text) in [(RESULTS, results), (PAGE, page)] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let options = Options::parse_from(["forebay-peers", "--render"]);
        let report: Report = serde_json::from_str(results).unwrap();
        keep(&options, &root, &report, "a table").unwrap();
        let kept = [RESULTS, PLOT, PAGE].map(|path| fs::read_to_string(root.join(path)).unwrap());
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(kept[0], results);
        assert!(kept[1].contains("raft-engine"));
        assert!(kept[2].contains("a table"));
    }
}
