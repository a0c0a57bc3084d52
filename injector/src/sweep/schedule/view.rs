//! What the stages of a sweep see.

use std::collections::{BTreeSet, HashSet};

use super::tuning::Tuning;
use crate::{
    events::frames,
    journal::{
        Signature, State,
        record::{Shard, Site},
    },
    plan::sweep::Leaks,
    sweep::priority::Modules,
};

/// What does not change with the journal: what was asked for, and what this boot is like.
#[derive(Clone, Debug)]
pub struct Setting {
    /// At most so many failures in one attempt.
    pub depth: u32,
    /// All hits of an attempt fail, at most so many; none: one.
    pub persistent: Option<u32>,
    /// Which part of the sites.
    pub shard: Option<Shard>,
    /// Else sites are only recorded.
    pub failing: bool,
    /// How leaks are looked for.
    pub leaks: Leaks,
    /// The kernel has kmemleak.
    pub kmemleak: bool,
    /// The loaded modules.
    pub modules: Modules,
    /// The thresholds.
    pub tuning: Tuning,
    /// Sites that are reached without the workload.
    pub background: BTreeSet<Signature>,
    /// Sites in the order in which this boot reached them first.
    pub order: Vec<Signature>,
}

impl Setting {
    /// kmemleak is there and wanted.
    #[must_use]
    pub fn asks_kmemleak(&self) -> bool {
        self.kmemleak && self.leaks != Leaks::Off
    }
}

/// What a stage sees.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What the journal adds up to.
    pub state: &'a State,
    /// What else is known.
    pub setting: &'a Setting,
}

impl<'a> View<'a> {
    /// The thresholds.
    #[must_use]
    pub fn tuning(&self) -> &'a Tuning {
        &self.setting.tuning
    }

    /// What is known of a site.
    #[must_use]
    pub fn site(&self, site: Signature) -> Option<&'a Site> {
        self.state.site(site)?.info.as_ref()
    }

    /// Sites that have not failed and could, the most interesting first.
    #[must_use]
    pub fn left(&self) -> Vec<Signature> {
        let Self { state, setting } = self;
        let tested = state.tested();
        let sites = || state.sites().values().filter_map(|site| site.info.as_ref());
        let mut left: Vec<&Site> = sites()
            .filter(|site| !tested.is_done(site.site) && !setting.background.contains(&site.site))
            .filter(|site| setting.shard.is_none_or(|shard| shard.has(site.site)))
            .collect();
        let ranking = setting.modules.ranking(sites().map(|site| (site, tested.is_finished(site.site))));
        left.sort_by_cached_key(|site| ranking.rank(site, state.hits(site.site)));
        left.into_iter().map(|site| site.site).collect()
    }

    /// Of these sites, one for each static site that has failed in no context yet: the first of each, and all whose static site
    /// is unknown.
    #[must_use]
    pub fn novel(&self, left: &[Signature]) -> Vec<Signature> {
        let tested = self.state.tested();
        let finished = self.state.sites().iter().filter(|(site, _)| tested.is_finished(**site));
        let place = |site: &'a Site| Some((site.hook, frames::static_site(&site.stack)?));
        let mut known: HashSet<_> = finished.filter_map(|(_, site)| place(site.info.as_ref()?)).collect();
        let is_new = |site: &&Signature| self.site(**site).and_then(place).is_none_or(|place| known.insert(place));
        left.iter().filter(is_new).copied().collect()
    }

    /// Whether another run of a level is worth while after one that failed `new` sites for the first time: it must be one
    /// in `part` of all that have failed.
    #[must_use]
    pub fn is_worth(&self, new: usize, part: usize) -> bool {
        new * part >= self.state.tested().finished()
    }
}
