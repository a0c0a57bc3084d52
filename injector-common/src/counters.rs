//! What is counted, per hook and CPU: one table for both sides, so that text, JSON and metrics say the same.

/// Name, unit and meaning of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Name in JSON, and in text with `_` for spaces.
    pub name: &'static str,
    /// What one count is.
    pub unit: &'static str,
    /// What it says.
    pub help: &'static str,
}

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident: $unit:literal,)*) => {
        /// The counters of one hook on one CPU. Written only by that CPU with preemption off, so plain adds are exact.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(C)]
        pub struct Counters { $($(#[doc = $help])+ pub $name: u64,)* }

        /// Descriptions, in the order of the fields.
        pub const DESCRIPTIONS: &[Description] =
            &[$(Description { name: stringify!($name), unit: $unit, help: concat!($($help),+) },)*];

        impl Counters {
            /// The values, in the order of [`DESCRIPTIONS`].
            #[must_use]
            pub fn values(&self) -> [u64; DESCRIPTIONS.len()] {
                let Self { $($name,)* } = *self;
                [$($name,)*]
            }

            /// The opposite of [`Counters::values`].
            #[must_use]
            pub fn from_values(values: [u64; DESCRIPTIONS.len()]) -> Self {
                let [$($name,)*] = values;
                Self { $($name,)* }
            }

            /// What was counted since `earlier`.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name - earlier.$name,)* }
            }

            /// Adds another CPU's counters.
            pub fn add(&mut self, other: &Self) {
                let Self { $($name,)* } = *other;
                $(self.$name += $name;)*
            }
        }
    };
}

counters! {
    /// calls of the hook since it was armed: by the targets, if there are any, else by anyone
    calls: "calls",
    /// calls that came as far as the filters on stacks: all others accepted them, and so did --not-stack
    stacks: "calls",
    /// calls that every filter accepted
    matches: "calls",
    /// matches that were failed
    failures: "calls",
    /// failures whose event found the ring buffer full; they are in the histogram all the same
    lost: "events",
    /// matches let through by the policy (probability, every n-th, rate, choice of sites…)
    passed: "calls",
    /// matches let through because the failure budget was used up
    exhausted: "calls",
    /// matches let through because the daemon's heartbeat or the run's time was over
    expired: "calls",
    /// matches never failed: __GFP_NOFAIL, whose callers rightly don't check
    suppressed_nofail: "calls",
    /// matches never failed: the cache that caches are made from
    suppressed_bootstrap: "calls",
    /// matches never failed: the injector's own threads
    suppressed_own: "calls",
    /// matches never failed: PID 1
    suppressed_init: "calls",
    /// calls in other contexts than asked for: in an interrupt the task that a target names is a bystander
    bystander: "calls",
    /// calls let through because kernel memory or the stack could not be read
    unreadable: "calls",
    /// matches let through because the table of sites was full
    sites_full: "calls",
    /// failures with frames in code that was loaded after the start: their site signature is coarser
    unknown_code: "calls",
    /// calls by anyone that the program was not run for: it, or for a kprobe any other, ran on that CPU already; kernels before 6.7 tell of fmod_ret only
    missed: "calls",
    /// processes that --follow missed because its table was full
    unfollowed: "processes",
}

impl Counters {
    /// Matches that a guard held back.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed_nofail + self.suppressed_bootstrap + self.suppressed_own + self.suppressed_init
    }
}

const _: () = assert!(size_of::<Counters>() == 8 * DESCRIPTIONS.len());

#[cfg(feature = "user")]
// SAFETY: repr(C), u64 only, any bit pattern is valid.
unsafe impl aya::Pod for Counters {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_the_descriptions() {
        let counters = Counters { calls: 1, unfollowed: 9, ..Counters::default() };
        let values = counters.values();
        assert_eq!(DESCRIPTIONS[0].name, "calls");
        assert_eq!(values[0], 1);
        assert_eq!(DESCRIPTIONS[values.len() - 1].name, "unfollowed");
        assert_eq!(values[values.len() - 1], 9);
        assert_eq!(Counters::from_values(values), counters);
    }

    #[test]
    fn add_adds_every_field() {
        let one = Counters { lost: 2, suppressed_own: 3, ..Counters::default() };
        let mut sum = one;
        sum.add(&one);
        assert_eq!((sum.lost, sum.suppressed_own, sum.suppressed()), (4, 6, 6));
        assert_eq!(sum.since(&one), one);
    }
}
