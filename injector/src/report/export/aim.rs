//! Which ranges of addresses tell a site from others.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    events::frames,
    journal::Signature,
    report::{Report, SiteRow},
};

/// Frames that the kernel's filter sees for certain: it looks at 32, of which some are its own.
pub const DEPTH: usize = 26;
/// Places that are named, the best first: a kernel may have several functions of a name.
const CANDIDATES: usize = 3;

/// Where the kernel's filter looks: places as the script resolves them, the best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aim {
    /// On the kernel of the sweep: `function+0x1f [module]`, one of which must be in the stack.
    pub exact: Vec<String>,
    /// On other kernels: `function [module]`.
    pub loose: Vec<String>,
    /// On the kernel of the sweep: one that must not be in the stack.
    pub exact_reject: Vec<String>,
    /// The same on other kernels.
    pub loose_reject: Vec<String>,
    /// How many other sites of the sweep can't be told from this one, even on its kernel.
    pub shared: usize,
}

impl Aim {
    /// Aims at a site. None if the kernel's filter sees no function of it.
    #[must_use]
    pub fn at(report: &Report, signature: Signature, site: &SiteRow) -> Option<Self> {
        let others = report.sites.iter().filter(|(other, row)| **other != signature && row.hook == site.hook);
        let others: Vec<&[String]> = others.map(|(_, row)| row.stack.as_slice()).collect();
        let exact = narrow(&site.stack, &others, &|frame| named(frame).then(|| frame.to_owned()))?;
        let loose = narrow(&site.stack, &others, &function)?;
        Some(Self {
            exact: exact.required,
            loose: loose.required,
            exact_reject: exact.rejected.into_iter().collect(),
            loose_reject: loose.rejected.into_iter().collect(),
            shared: exact.shared,
        })
    }
}

/// A frame with a function, and nothing that a shell or awk could trip over.
fn named(frame: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.+[] ".contains(c);
    frame.contains("+0x") && !frame.starts_with("0x") && frame.chars().all(good)
}

/// `function [module]`, without what the compiler appends to copies.
fn function(frame: &str) -> Option<String> {
    let name = frames::function(frame).split('.').next().filter(|name| named(frame) && !name.is_empty())?;
    let module = frame.split_once(" [").map(|(_, module)| format!(" [{module}"));
    Some(name.to_owned() + &module.unwrap_or_default())
}

struct Narrowed {
    required: Vec<String>,
    rejected: Option<String>,
    shared: usize,
}

/// The places of a stack that are in the fewest of other stacks, and one that rules out the most of the rest. `key` says what
/// makes frames the same place.
fn narrow(stack: &[String], others: &[&[String]], key: &dyn Fn(&str) -> Option<String>) -> Option<Narrowed> {
    // The allocator's own frames come first, and are no way to tell sites apart.
    let allocator = stack.len() - frames::callers(stack).len();
    let own = stack.iter().take(DEPTH).skip(allocator).filter_map(|frame| key(frame));
    let whole = |stack: &[String]| -> BTreeSet<String> { stack.iter().filter_map(|frame| key(frame)).collect() };
    let own_places = whole(stack);
    let other_places: Vec<BTreeSet<String>> = others.iter().map(|stack| whole(stack)).collect();
    let sharing = |place: &String| other_places.iter().filter(|places| places.contains(place)).count();
    let mut own: Vec<(usize, usize, String)> = own.enumerate().map(|(i, place)| (sharing(&place), i, place)).collect();
    own.sort();
    let mut seen = BTreeSet::new();
    own.retain(|(_, _, place)| seen.insert(place.clone()));
    let (_, _, best) = own.first()?;
    let rest: Vec<&BTreeSet<String>> = other_places.iter().filter(|places| places.contains(best)).collect();
    let mut rules_out: BTreeMap<&String, usize> = BTreeMap::new();
    for place in rest.iter().flat_map(|places| places.iter()).filter(|place| !own_places.contains(*place)) {
        *rules_out.entry(place).or_default() += 1;
    }
    let rejected = rules_out.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0)));
    let shared = rest.len() - rejected.map_or(0, |(_, count)| count);
    let rejected = rejected.map(|(place, _)| place.clone());
    Some(Narrowed { required: own.into_iter().take(CANDIDATES).map(|(_, _, place)| place).collect(), rejected, shared })
}
