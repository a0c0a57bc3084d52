//! Which sites fail together: after a run with several failures went wrong, they are taken apart by halves.

use std::collections::HashMap;

use super::view::View;
use crate::journal::Signature;

/// How many sites may fail in one run together with a site.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Beside what the journal knows: sites of runs that went wrong without a complaint.
    own: HashMap<Signature, usize>,
}

impl Limits {
    /// One of these is the cause: at most half as many of them fail together next time.
    pub fn halve<'a>(&mut self, sites: impl ExactSizeIterator<Item = &'a Signature>) {
        let half = (sites.len() / 2).max(1);
        for site in sites {
            let limit = self.own.entry(*site).or_insert(usize::MAX);
            *limit = half.min(*limit);
        }
    }

    /// How many sites may fail together with this one; none: any number.
    pub fn of(&self, view: &View<'_>, site: Signature) -> Option<usize> {
        let known = view.state.suspicion().limit(site);
        self.own.get(&site).copied().into_iter().chain(known).min()
    }

    /// The next sites to fail together: the most suspicious ones first, as many as each of them may have beside it.
    pub fn group(&self, view: &View<'_>, left: &[Signature], most: usize) -> Vec<Signature> {
        let limit = |site: Signature| self.of(view, site).map_or(most, |limit| limit.min(most));
        let smallest = left.iter().map(|site| limit(*site)).min().unwrap_or(most);
        left.iter().copied().filter(|site| limit(*site) == smallest).take(smallest).collect()
    }
}
