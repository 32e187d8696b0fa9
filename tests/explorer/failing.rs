//! One call of the medium fails, the first, the second, and so on, until a run ends without meeting the fault.

use super::faults::{Call, Fault, Kind, Plan};
use super::{Explorer, Setup};

/// Every way a call can fail, and whether the medium only fails (what was synced stays) or lies.
pub const WAYS: [(Call, Kind, bool); 12] = [
    (Call::Read, Kind::Error, true),
    (Call::Read, Kind::Short, true),
    (Call::Read, Kind::ErrorForEver, false),
    (Call::Write, Kind::Error, true),
    (Call::Write, Kind::Full, true),
    (Call::Write, Kind::ReadOnly, true),
    (Call::Write, Kind::Silent, false),
    (Call::Sync, Kind::Error, true),
    (Call::Sync, Kind::ReadOnly, true),
    (Call::Erase, Kind::Error, true),
    (Call::Erase, Kind::Bad, true),
    (Call::Erase, Kind::Silent, false),
];

impl Explorer {
    /// Runs with the `at`-th call failing; whether it was met.
    pub fn run_failing(&mut self, (call, kind, honest): (Call, Kind, bool), at: u64, steps: usize) -> bool {
        self.lax = !honest;
        // Frames whose write failed may have landed all the same.
        self.counts = false;
        // Every cut after a commit is one sampled choice of outcomes.
        self.depth = 3;
        let mut live = self.begin_with(Plan::with_fault(Fault { call, kind, at }));
        let mut met = false;
        for _ in 0..steps {
            self.step(&mut live, 1);
            met |= live.ring.storage().plan.met;
        }
        met
    }

    /// A run on a medium with bad slots.
    pub fn run_bad(&mut self, bad: &[u32], steps: usize) {
        self.depth = 3;
        let mut live = self.begin_with(Plan::with_bad(bad));
        for _ in 0..steps {
            self.step(&mut live, 1);
        }
    }

    /// Each call of a kind in turn, until a run does not get to it; gives the runs.
    pub fn fail_each(&mut self, setup: Setup, way: (Call, Kind, bool), steps: usize, every: u64) -> u64 {
        let mut at = 0;
        loop {
            self.again(setup, 1_000_000 + at);
            if !self.run_failing(way, at, steps) {
                return at / every;
            }
            at += every;
        }
    }
}
