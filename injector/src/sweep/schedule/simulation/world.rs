//! A world: a kernel with its sites and defects, and a workload that reaches them.

use std::fmt;

use proptest::{prelude::*, sample::select};

use crate::journal::{Signature, record::Place};

/// What the failure of a site does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The system call returns ENOMEM.
    Clean,
    /// Nothing: the kernel goes on.
    Masked,
    /// The system call returns EIO.
    Misreported,
    /// The file system shuts itself down: every system call returns EROFS until a reset.
    Wedges,
    /// The kernel warns; the system call returns ENOMEM.
    Warns,
    /// The kernel oopses: the task is gone, and the kernel is not fit for more.
    Oopses,
    /// The machine goes down.
    Panics,
    /// The task does not come back.
    Hangs,
    /// Memory is lost; the system call returns ENOMEM.
    Leaks,
}

impl Effect {
    /// Whether it is a defect.
    pub fn is_defect(self) -> bool {
        matches!(self, Self::Warns | Self::Oopses | Self::Panics | Self::Hangs | Self::Leaks)
    }
}

/// A site.
#[derive(Clone, Debug)]
pub struct SimSite {
    pub place: Place,
    pub effect: Effect,
    /// It comes up in so many of 8 runs.
    pub comes_up: u8,
    /// Only the failure of this site leads to it, in the same system call.
    pub behind: Option<usize>,
}

/// A kernel and a workload.
#[derive(Clone)]
pub struct World {
    pub sites: Vec<SimSite>,
    /// The system calls of the workload, in order: the sites that each reaches. Those behind other sites are in none.
    pub calls: Vec<Vec<usize>>,
    /// Sites that are reached without the workload.
    pub background: usize,
    /// The first failure in a run without a tracer ends the workload.
    pub brittle: bool,
    /// The kernel has kmemleak.
    pub kmemleak: bool,
    /// What comes up by chance, and which numbers sites have.
    pub seed: u64,
}

/// One line a system call: what is shown of a world in which a test fails.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sites, calls, background, brittle, kmemleak, seed } = self;
        writeln!(f, "background {background}, brittle {brittle}, kmemleak {kmemleak}, seed {seed}")?;
        let site = |n: &usize| {
            let SimSite { place, effect, comes_up, behind } = &sites[*n];
            let behind = behind.map_or(String::new(), |first| format!(" behind {first}"));
            let seldom = if *comes_up < 8 { format!(" {comes_up}/8") } else { String::new() };
            format!("{n} {effect:?} {place:?}{seldom}{behind}")
        };
        for call in calls {
            writeln!(f, "call: {}", call.iter().map(site).collect::<Vec<_>>().join(", "))?;
        }
        let behind = (0..sites.len()).filter(|n| sites[*n].behind.is_some());
        write!(f, "behind: {}", behind.map(|n| site(&n)).collect::<Vec<_>>().join(", "))
    }
}

/// A number that looks random (splitmix64).
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl World {
    pub fn signature(&self, site: usize) -> Signature {
        Signature(mix(self.seed ^ ((site as u64) << 32)))
    }

    /// The title of a site's defect.
    pub fn title(&self, site: usize) -> String {
        format!("defect at site {site}")
    }

    /// Whether a site comes up in a run.
    pub fn comes_up(&self, site: usize, run: u64) -> bool {
        mix(self.seed ^ (run << 16) ^ site as u64) % 8 < u64::from(self.sites[site].comes_up)
    }

    /// Whether a sweep must find what a site does: it comes up in every run; or it does so after one failure that does no damage
    /// itself, where nothing hides it: no file system that shuts itself down, and no other site that fails there first.
    pub fn must_be_reached(&self, site: usize) -> bool {
        let always = |site: usize| self.sites[site].comes_up == 8;
        let harmless = |effect| matches!(effect, Effect::Clean | Effect::Masked | Effect::Misreported);
        match self.sites[site].behind {
            None => always(site),
            Some(first) => {
                // What ends the system call before it hides it.
                let others =
                    (0..self.sites.len()).filter(|other| *other != site && self.sites[*other].behind == Some(first));
                let aborts = self.sites.iter().any(|site| site.effect == Effect::Wedges);
                !aborts
                    && others.map(|other| self.sites[other].effect).all(|effect| effect == Effect::Masked)
                    && always(site)
                    && always(first)
                    && self.sites[first].behind.is_none()
                    && self.sites[first].place == Place::SystemCall
                    && harmless(self.sites[first].effect)
            }
        }
    }
}

fn an_effect(defects: bool) -> impl Strategy<Value = Effect> {
    use Effect::{Clean, Hangs, Leaks, Masked, Misreported, Oopses, Panics, Warns, Wedges};
    let harmless = select(vec![Clean, Clean, Clean, Masked, Masked, Masked, Misreported, Wedges]);
    let defect = select(vec![Warns, Oopses, Panics, Hangs, Leaks]);
    if defects { prop_oneof![6 => harmless, 1 => defect].boxed() } else { harmless.boxed() }
}

fn a_place() -> impl Strategy<Value = Place> {
    prop_oneof![
        8 => Just(Place::SystemCall),
        1 => Just(Place::Exec),
        1 => Just(Place::PageFault),
        1 => Just(Place::Kthread),
        1 => Just(Place::Interrupt),
    ]
}

fn a_site() -> impl Strategy<Value = SimSite> {
    let comes_up = prop_oneof![6 => Just(8_u8), 1 => 1..8_u8];
    (a_place(), an_effect(true), comes_up).prop_map(|(place, effect, comes_up)| {
        // What is lost outside of a system call is nobody's business here: kmemleak names its path, and that is of one.
        let in_call = matches!(place, Place::SystemCall);
        let effect = if effect == Effect::Leaks && !in_call { Effect::Masked } else { effect };
        SimSite { place, effect, comes_up, behind: None }
    })
}

/// A world with up to `most` sites.
pub fn a_world(most: usize) -> impl Strategy<Value = World> {
    let sites = proptest::collection::vec(a_site(), 1..most);
    let shape = (1..6_usize, 0..2_usize, any::<bool>(), any::<bool>(), any::<u64>());
    let behind = proptest::collection::vec((any::<prop::sample::Index>(), an_effect(true)), 0..4);
    (sites, shape, behind).prop_map(|(mut sites, (calls, background, brittle, kmemleak, seed), behind)| {
        let plain = sites.len();
        let mut all = vec![Vec::new(); calls];
        for site in 0..plain {
            all[usize::try_from(mix(seed ^ site as u64) % calls as u64).expect("small")].push(site);
        }
        for (first, effect) in behind {
            let first = first.index(plain);
            if sites[first].place == Place::SystemCall || sites[first].place.is_machinery() {
                sites.push(SimSite { place: Place::SystemCall, effect, comes_up: 8, behind: Some(first) });
            }
        }
        World { sites, calls: all, background, brittle, kmemleak, seed }
    })
}
