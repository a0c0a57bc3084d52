//! Which matches are failed.

use std::num::NonZeroU64;

use serde::Serialize;

use super::{ErrorNumber, PlanError, Probability, Target};

/// Which matches are failed. All conditions must hold; they are asked in the order of the fields, and what an earlier one
/// lets go does not count for a later one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Policy {
    /// So many matches pass first.
    pub skip: u64,
    /// So many bytes of matches pass first (of the hooks that have a size), after `skip`.
    pub space: u64,
    /// Only every so-many-th match, counted after `skip` and `space`, from 1.
    pub every: Option<NonZeroU64>,
    /// Only these matches, counted from 1 as above; empty: no such condition. At most [`Policy::MAX_NTH`].
    pub nth: Vec<NonZeroU64>,
    /// Whose matches `nth` counts.
    pub nth_per: NthPer,
    /// How likely each match is.
    pub probability: Probability,
    /// With it, whether a match fails depends on this, the site's signature, and the how-manieth hit of the site it is.
    pub seed: Option<u64>,
    /// How many failures a site may have.
    pub per_site: Option<NonZeroU64>,
    /// How many failures a second there may be.
    pub rate: Option<NonZeroU64>,
    /// How many at most.
    pub times: Option<u64>,
    /// What hooks return whose type allows it; else -ENOMEM.
    pub errno: Option<ErrorNumber>,
}

/// Whose matches are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NthPer {
    /// Everybody's, together.
    #[default]
    Run,
    /// Each task's by themselves, as the kernel's fail-nth does.
    Task,
}

impl Policy {
    /// How many numbers `nth` can have.
    pub const MAX_NTH: usize = 16;

    /// The probability when none is given: always, where something else bounds the damage.
    ///
    /// # Errors
    /// Nothing else does.
    pub fn default_probability(&self, target: &Target) -> Result<Probability, PlanError> {
        let bounded = self.times.is_some()
            || self.rate.is_some()
            || self.per_site.is_some()
            || !self.nth.is_empty()
            || self.every.is_some_and(|every| every.get() > 1);
        if target.is_everybody() && !bounded {
            return Err(PlanError::NoProbability);
        }
        Ok(Probability::ALWAYS)
    }
}
