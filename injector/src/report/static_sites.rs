//! How much of the code was tested, whatever the number of ways that lead there.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    model::{CoverageClass, SiteRow},
    phrase::{number, plural},
};
use crate::events::frames;

/// Static sites: an allocator's caller and the caller's caller. Many sites are contexts of the same static site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StaticSites {
    /// How many were seen.
    pub seen: usize,
    /// How many of them were failed in some context.
    pub failed: usize,
}

impl StaticSites {
    /// Those of all these sites; sites without a stack count for none.
    pub(super) fn of<'a>(sites: impl Iterator<Item = &'a SiteRow>) -> Self {
        let mut all: BTreeMap<_, bool> = BTreeMap::new();
        for site in sites {
            let was_failed = !matches!(site.kept, CoverageClass::Unreached | CoverageClass::Left);
            if let Some(place) = frames::static_site(&site.stack) {
                *all.entry((site.hook, place)).or_default() |= was_failed;
            }
        }
        Self { seen: all.len(), failed: all.values().filter(|failed| **failed).count() }
    }

    /// `400 of 412 static sites (a call of the allocator and its caller) were failed`; none where there are none.
    pub(super) fn phrase(self) -> Option<String> {
        let Self { seen, failed } = self;
        (seen > 0).then(|| {
            let sites = plural(seen, "static site");
            format!(
                "{} of {sites} (a call of the allocator and its caller) failed in some context",
                number(failed as u64)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::Verdict, plan::Hook};

    #[test]
    fn one_context_that_failed_is_enough() {
        let row = |frames: &[&str], kept| SiteRow {
            hook: Some(Hook::Slab),
            context: None,
            place: None,
            kthread: false,
            module: String::new(),
            verdict: Verdict::Clean,
            kept,
            hits: 1,
            failures: 0,
            agreeing: None,
            unreached: None,
            after: None,
            stack: frames.iter().map(|&frame| frame.to_owned()).collect(),
        };
        let rows = [
            row(&["a+0x1", "b+0x1", "c+0x1"], CoverageClass::Left),
            row(&["a+0x1", "b+0x1", "d+0x1"], CoverageClass::Clean),
            row(&["a+0x1", "e+0x1", "d+0x1"], CoverageClass::Unreached),
            row(&[], CoverageClass::Clean),
        ];
        let all = StaticSites::of(rows.iter());
        assert_eq!(all, StaticSites { seen: 2, failed: 1 });
        assert_eq!(StaticSites::default().phrase(), None);
    }
}
