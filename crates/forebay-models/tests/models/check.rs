//! Runs a model under many schedules, and prints how to replay one that fails.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use forebay::sync::{Clock, begin};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

/// The number of schedules of a model for each scheduler and clock, unless
/// `FOREBAY_MODEL_SCHEDULES` is set.
const SCHEDULES: usize = 300;

/// The number of priority changes that the PCT scheduler places. It finds a bug that needs that
/// many preemptions in the right places sooner than the random scheduler.
const PCT_DEPTH: usize = 3;

const CLOCKS: [(&str, Clock); 2] = [("stopped", Clock::Stopped), ("jumping", Clock::Jumping)];

/// Runs the model under every clock and scheduler.
pub(crate) fn check(name: &'static str, model: fn()) {
    check_with(name, &CLOCKS, model);
}

/// Runs a model with a wait that only time ends, so the clock must not stand still.
pub(crate) fn check_in_time(name: &'static str, model: fn()) {
    check_with(name, &CLOCKS[1..], model);
}

fn check_with(name: &'static str, clocks: &[(&'static str, Clock)], model: fn()) {
    if let Some(path) = variable("FOREBAY_MODEL_SCHEDULE") {
        let clock_name = variable("FOREBAY_MODEL_CLOCK").unwrap_or_default();
        let (_, clock) = CLOCKS
            .into_iter()
            .find(|(known, _)| *known == clock_name)
            .expect("FOREBAY_MODEL_CLOCK is stopped or jumping");
        let scheduler = ReplayScheduler::new_from_file(path).expect("a schedule");
        return run(scheduler, clock, model);
    }
    let iterations = number("FOREBAY_MODEL_SCHEDULES").map_or(SCHEDULES, |n| n as usize);
    let seed = number("FOREBAY_SEED").unwrap_or_else(|| {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        time.unwrap_or_default().as_nanos() as u64
    });
    println!("{name}: FOREBAY_SEED={seed}, {iterations} schedules each");
    for (clock_name, clock) in clocks {
        let _says = SaysHow { name, clock_name };
        let random = RandomScheduler::new_from_seed(seed, iterations);
        run(random, *clock, model);
        let pct = PctScheduler::new_from_seed(seed, PCT_DEPTH, iterations);
        run(pct, *clock, model);
    }
}

fn run(scheduler: impl Scheduler + 'static, clock: Clock, model: fn()) {
    // The failing schedules of all models are kept here.
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("schedules");
    std::fs::create_dir_all(&dir).expect("a directory for schedules");
    let mut config = Config::new();
    config.stack_size = 512 << 10;
    config.failure_persistence = FailurePersistence::File(Some(dir));
    config.silence_warnings = true;
    config
        .ungraceful_shutdown_config
        .immediately_return_on_panic = true;
    Runner::new(scheduler, config).run(move || {
        begin(clock);
        model();
    });
}

/// Prints on a panic how to replay.
struct SaysHow {
    name: &'static str,
    clock_name: &'static str,
}

impl Drop for SaysHow {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { name, clock_name } = self;
            eprintln!(
                "replay with FOREBAY_MODEL_CLOCK={clock_name} \
                 FOREBAY_MODEL_SCHEDULE=<the file named above> \
                 cargo test -p forebay-models {name}"
            );
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    let value = variable(name)?;
    Some(
        value
            .parse()
            .unwrap_or_else(|e| panic!("{name}={value}: {e}")),
    )
}
