//! What is counted: instructions, in a guest whose clock counts them, or nanoseconds of a real machine.

use std::time::Duration;

use injector_tests::{OnOneCpu, Outcome, RunFile};
use serde_json::Value;

/// What a clock counts, and how often one must look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// QEMU -icount, where a nanosecond is an instruction.
    Instructions,
    /// A machine's own time.
    Wall,
}

impl Clock {
    /// Of a call's cost, in rows.
    pub const fn per_call(self) -> &'static str {
        match self {
            Self::Instructions => "instructions_per_call",
            Self::Wall => "nanoseconds_per_call",
        }
    }

    /// A cost for a row: instructions are whole, of nanoseconds there are tenths.
    pub fn rounded(self, cost: f64) -> Value {
        match self {
            Self::Instructions => (cost.round() as i64).into(),
            Self::Wall => ((cost * 10.0).round() / 10.0).into(),
        }
    }

    /// Allocations of a measurement. Where instructions are counted it is the same number every time, so few are enough.
    pub const fn calls(self) -> u64 {
        match self {
            Self::Instructions => 20_000,
            Self::Wall => 50_000,
        }
    }

    /// Of so many measurements the smallest counts: what else the machine does only adds.
    pub const fn runs(self) -> usize {
        match self {
            Self::Instructions => 3,
            Self::Wall => 9,
        }
    }

    /// Until nothing else is going on: the daemon reads the kernel's symbols in the background when it starts, and on
    /// one CPU that would be measured.
    pub fn settle(self) {
        std::thread::sleep(match self {
            // It costs nothing: where nothing runs, this clock leaps to the next timer.
            Self::Instructions => Duration::from_secs(4),
            Self::Wall => Duration::from_secs(1),
        });
    }

    /// Nanoseconds, which may be instructions, of one call that `request` describes; and how many of a measurement's failed.
    pub fn measure(self, file: &RunFile, request: &str) -> (f64, u64) {
        /// Warms caches and slabs, so that no measurement meets the allocator's slow path alone.
        const WARM_UP: u64 = 2_000;
        self.settle();
        let _one = (self == Self::Wall).then(OnOneCpu::here);
        file.run(&format!("{request} count={WARM_UP}"));
        let calls = self.calls();
        let runs = (0..self.runs()).map(|_| file.run(&format!("{request} count={calls}")));
        let Outcome { ns, failed, .. } = runs.min_by_key(|outcome| outcome.ns).expect("some runs");
        (ns as f64 / calls as f64, failed)
    }
}
