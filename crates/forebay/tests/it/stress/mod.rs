//! Promises 3, 4, 6 and 10 with threads that run freely.
//!
//! `FOREBAY_SEED` repeats the plan of a seed, but not how its threads interleave.

pub(crate) mod life;

use forebay::Config;

use crate::support::{Rng, temp_dir};
use life::{Account, Plan};

/// How often each buffer is opened.
const LIVES: u64 = 6;

#[test]
fn every_record_is_accounted_for_over_many_lives() {
    let seed = std::env::var("FOREBAY_SEED").map_or(std::process::id().into(), |seed| {
        seed.parse().expect("FOREBAY_SEED is a number")
    });
    println!("FOREBAY_SEED={seed}");
    let mut rng = Rng(seed);
    let mut total = Account::default();
    for _ in 0..2 {
        let dir = temp_dir();
        let mut account = Account::default();
        for life in 0..LIVES {
            let max_size = [16 << 10, 128 << 10, 2 << 20][rng.below(3) as usize];
            let mut plan = Plan::draw(&mut rng, Config::new(dir.path()), max_size);
            plan.records /= 2;
            if life == LIVES - 1 {
                plan.leaves_after = None;
            }
            println!("{plan:?}");
            account.live(&plan);
        }
        account.check_all_is_done();
        total.rewinds += account.rewinds;
        total.redelivered += account.redelivered;
    }
    // There were rewinds and redeliveries to account for.
    assert!(total.rewinds > 0 && total.redelivered > 0);
}
