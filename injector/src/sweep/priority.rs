//! Which sites come first where the sweep has the choice: in the runs that name their sites. Elsewhere the workload orders.

use std::collections::{HashMap, HashSet};

use crate::{
    journal::{
        Signature,
        record::{Place, Site},
    },
    kernel::modules,
};

/// The loaded modules.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    out_of_tree: HashSet<String>,
    loaded: HashSet<String>,
}

/// How new a module's code is likely to be. Nothing in a running kernel says it. But code that is not in its source yet is
/// newer than code that is, and a module that somebody loaded is nearer to what they work on than what is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    OutOfTree,
    Loaded,
    BuiltIn,
}

impl Modules {
    /// From the kernel's list.
    #[must_use]
    pub fn new(modules: &modules::Modules) -> Self {
        let mut all = Self::default();
        for module in modules.as_slice() {
            let set = if module.out_of_tree { &mut all.out_of_tree } else { &mut all.loaded };
            set.insert(module.name.clone());
        }
        all
    }

    fn age(&self, module: &str) -> Age {
        if self.out_of_tree.contains(module) {
            Age::OutOfTree
        } else if self.loaded.contains(module) {
            Age::Loaded
        } else {
            Age::BuiltIn
        }
    }

    /// An order of sites. `sites`: all, and which of them have failed.
    pub fn ranking<'a>(&self, sites: impl Iterator<Item = (&'a Site, bool)>) -> Ranking<'_> {
        let mut tested: HashMap<String, Tested> = HashMap::new();
        for (site, failed) in sites {
            let module = tested.entry(site.module.clone()).or_default();
            module.sites += 1;
            module.failed += usize::from(failed);
        }
        Ranking { modules: self, tested }
    }
}

/// An order of sites.
#[derive(Debug)]
pub struct Ranking<'a> {
    modules: &'a Modules,
    tested: HashMap<String, Tested>,
}

/// How much of a module was tested.
#[derive(Debug, Default)]
struct Tested {
    sites: usize,
    failed: usize,
}

impl Tested {
    fn per_mille(&self) -> usize {
        self.failed * 1000 / self.sites.max(1)
    }
}

impl Ranking<'_> {
    /// Sorts sites: those that uninjected runs reach before those that only failures lead to; process machinery last; the
    /// newest modules first, among those the least tested; rare sites before those that everybody reaches.
    pub fn rank(&self, site: &Site, hits: u64) -> impl Ord + use<> {
        let tested = self.tested.get(&site.module).map_or(0, Tested::per_mille);
        let machinery = site.place.is_machinery();
        let key: (bool, bool, Age, usize, Place, u64, Signature) =
            (hits == 0, machinery, self.modules.age(&site.module), tested, site.place, hits, site.site);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{events::Context, plan::Hook};

    fn site(number: u64, module: &str, place: Place) -> Site {
        Site {
            site: Signature(number),
            hook: Hook::Slab,
            context: Context::Task,
            kthread: false,
            module: module.to_owned(),
            place,
            stack: Vec::new(),
            after: None,
            call: None,
        }
    }

    #[test]
    fn newest_and_least_tested_first() {
        let list = "nfs 4096 2 nfsv4, Live 0xffffffffc0002000\nmine 4096 0 - Live 0xffffffffc0000000 (OE)\n";
        let modules = Modules::new(&modules::Modules::parse(list));
        let sites = [
            site(1, "mm", Place::PageFault),
            site(2, "vfs", Place::SystemCall),
            site(3, "ext4", Place::Kthread),
            site(4, "nfs", Place::SystemCall),
            site(5, "mine", Place::Kthread),
        ];
        let failed = [(&sites[1], true), (&sites[1], false), (&sites[2], false)];
        let ranking = modules.ranking(failed.into_iter());
        let mut sorted: Vec<&Site> = sites.iter().collect();
        sorted.sort_by_cached_key(|site| ranking.rank(site, 1));
        let names: Vec<&str> = sorted.iter().map(|site| &*site.module).collect();
        assert_eq!(names, ["mine", "nfs", "ext4", "vfs", "mm"]);
        assert!(ranking.rank(&sites[0], 1) < ranking.rank(&sites[4], 0), "only failures lead there");
    }
}
