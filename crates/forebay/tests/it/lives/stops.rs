//! The ways in which a machine stops.

use forebay::storage::sim::Sim;

use crate::support::Rng;

/// How a machine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The process was killed; the kernel lives on.
    Killed,
    /// The power was cut. Seed 0: nothing that is pending survives; seed 1: all of
    /// it; even seeds: a journalling kernel; odd seeds: a careless one.
    PowerCut(u64),
}

impl Stop {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0..3 => Self::Killed,
            3 => Self::PowerCut(0),
            4 => Self::PowerCut(1),
            _ => Self::PowerCut(2 + rng.below(1 << 32)),
        }
    }

    pub(super) fn is_power_cut(self) -> bool {
        self != Self::Killed
    }

    /// The machine after the stop, powered on again.
    pub(super) fn apply(self, sim: &Sim) -> Sim {
        match self {
            Self::Killed => sim.kill(),
            Self::PowerCut(seed) => sim.crash(seed),
        }
    }
}
