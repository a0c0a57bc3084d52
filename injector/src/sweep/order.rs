//! Which sites come first, where the sweep has the choice: in the runs for what passes left. Within a pass the workload orders.

use std::collections::{HashMap, HashSet};

use super::{
    journal::{
        Signature,
        record::{Place, Site},
    },
    notebook::Notebook,
};
use crate::kernel::{KernelFiles, modules::Modules};

/// What is known of modules.
#[derive(Debug, Default)]
pub struct Order {
    out_of_tree: HashSet<String>,
    loaded: HashSet<String>,
    tested: HashMap<String, Tested>,
}

/// How much of a module was tested.
#[derive(Debug, Default)]
struct Tested {
    sites: usize,
    failed: usize,
}

/// How new a module's code is likely to be. Nothing in a running kernel says it, but what is not in its source yet is
/// newer than what is, and what somebody loaded is nearer to what they work on than what is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    OutOfTree,
    Loaded,
    BuiltIn,
}

impl Order {
    /// From what is loaded, and what was failed so far.
    pub fn now<'a>(sites: impl Iterator<Item = &'a Site>, notebook: &Notebook) -> Self {
        // Without the list all modules are equal.
        let modules = Modules::read(&KernelFiles::default()).unwrap_or_default();
        let mut order = Self::of(&modules);
        for site in sites {
            order.count(site, notebook.was_failed(site.site));
        }
        order
    }

    fn of(modules: &Modules) -> Self {
        let mut order = Self::default();
        for module in modules.as_slice() {
            let set = if module.out_of_tree { &mut order.out_of_tree } else { &mut order.loaded };
            set.insert(module.name.clone());
        }
        order
    }

    fn count(&mut self, site: &Site, failed: bool) {
        let module = self.tested.entry(site.module.clone()).or_default();
        module.sites += 1;
        module.failed += usize::from(failed);
    }

    /// Sorts sites: what the workload reaches by itself, before what was only seen after failures; bare process machinery
    /// last; of the newest modules first, of the least-tested among those; rare sites before those that everybody reaches.
    pub fn rank(&self, site: &Site, hits: u64) -> impl Ord + use<> {
        let tested = self.tested.get(&site.module).map_or(0, Tested::per_mille);
        let machinery = matches!(site.place, Place::Exec | Place::PageFault);
        let key: (bool, bool, Age, usize, Place, u64, Signature) =
            (hits == 0, machinery, self.age(&site.module), tested, site.place, hits, site.site);
        key
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
}

impl Tested {
    fn per_mille(&self) -> usize {
        self.failed * 1000 / self.sites.max(1)
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
        let modules =
            Modules::parse("nfs 4096 2 nfsv4, Live 0xffffffffc0002000\nmine 4096 0 - Live 0xffffffffc0000000 (OE)\n");
        let mut order = Order::of(&modules);
        let sites = [
            site(1, "mm", Place::PageFault),
            site(2, "vfs", Place::SystemCall),
            site(3, "ext4", Place::Kthread),
            site(4, "nfs", Place::SystemCall),
            site(5, "mine", Place::Kthread),
        ];
        for (site, failed) in [(&sites[1], true), (&sites[1], false), (&sites[2], false)] {
            order.count(site, failed);
        }
        let mut sorted: Vec<&Site> = sites.iter().collect();
        sorted.sort_by_cached_key(|site| order.rank(site, 1));
        let modules: Vec<&str> = sorted.iter().map(|site| &*site.module).collect();
        assert_eq!(modules, ["mine", "nfs", "ext4", "vfs", "mm"]);
        assert!(order.rank(&sites[0], 1) < order.rank(&sites[4], 0), "seen after failures only");
    }
}
