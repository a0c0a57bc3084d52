//! From complaints and crashes to findings: one for each defect, however many sites lead to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Verdict;
use super::{
    State,
    record::{Call, Failed, Level, Outcome, Signature, Syscall},
    state::Event,
};

/// A defect of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Names it: 8 hexadecimal digits that depend on the title alone.
    pub id: String,
    /// The same for the same defect.
    pub title: String,
    /// The worst that came of it.
    pub verdict: Verdict,
    /// What the kernel said the first time.
    pub splat: String,
    /// Titles of what followed from the same failures.
    pub followed_by: Vec<String>,
    /// The failures that do it, in the order in which they were found.
    pub failures: Vec<FindingFailure>,
    /// Sites one of which may do it; empty where `failures` says it. The likeliest first.
    pub suspects: Vec<Signature>,
    /// How often these failures were tried.
    pub tries: u32,
    /// How often this came of it.
    pub reproduced: u32,
}

/// A failure that leads to a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingFailure {
    /// Where.
    pub site: Signature,
    /// With this failure before it, in the same attempt.
    pub after: Option<Signature>,
    /// At which hit within the attempt.
    pub hit: u32,
    /// How it was failed; none if the journal lost that line.
    pub level: Option<Level>,
    /// What was asked for: where the machine went down before it could be written, when the site was first seen.
    pub call: Option<Call>,
    /// The system call.
    pub syscall: Option<Syscall>,
    /// What user space got; none where nothing came back.
    pub outcome: Option<Outcome>,
    /// How often it was tried.
    pub tries: u32,
    /// How often the finding came of it.
    pub reproduced: u32,
}

/// No finding is meant, or several are.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoFinding {
    /// No id and no title is like that.
    #[error("{journal} has no finding `{name}`: {}", if findings.is_empty() { "it has none".to_owned() } else { format!("the closest are {}", findings.join("; ")) })]
    Unknown {
        /// The journal.
        journal: String,
        /// What was asked for.
        name: String,
        /// Ids and titles of findings, the closest first.
        findings: Vec<String>,
    },
    /// Several titles begin like that.
    #[error("several findings begin with `{name}`; use an id: {}", findings.join("; "))]
    Several {
        /// What was asked for.
        name: String,
        /// Their ids and titles.
        findings: Vec<String>,
    },
}

crate::exit::has_exit_code!(NoFinding => USAGE);

/// The finding with this id, or whose title begins like that.
///
/// # Errors
/// There is none, or there are several.
pub fn find_finding<'a>(
    all: impl IntoIterator<Item = &'a Finding>,
    name: &str,
    journal: &str,
) -> Result<&'a Finding, NoFinding> {
    /// Findings that an error names.
    const NAMED: usize = 5;
    let all: Vec<&Finding> = all.into_iter().collect();
    let shown = |findings: &[&Finding]| -> Vec<String> {
        let text = |finding: &&Finding| {
            let title: String = finding.title.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            format!("{} {title}", finding.id)
        };
        findings.iter().take(NAMED).map(text).collect()
    };
    let matching: Vec<&Finding> =
        all.iter().copied().filter(|finding| finding.id == name || finding.title.starts_with(name)).collect();
    match matching.as_slice() {
        [finding] => Ok(finding),
        [] => {
            let likeness = |finding: &&Finding| {
                let by = |text: &str| (strsim::jaro_winkler(name, text) * 1000.0) as u32;
                std::cmp::Reverse(by(&finding.id).max(by(&finding.title)))
            };
            let mut closest = all;
            closest.sort_by_key(likeness);
            let (journal, name) = (journal.to_owned(), name.to_owned());
            Err(NoFinding::Unknown { journal, name, findings: shown(&closest) })
        }
        several => Err(NoFinding::Several { name: name.to_owned(), findings: shown(several) }),
    }
}

/// One failure in one run.
type Key = (usize, Option<u32>, Signature, Option<Signature>);

impl Finding {
    /// The name for a title: FNV-1a, 32 bits.
    #[must_use]
    pub fn id_of(title: &str) -> String {
        let hash = title.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        format!("{hash:08x}")
    }
}

impl State {
    /// What a maintainer must look at, the worst first.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        of(self)
    }
}

fn of(state: &State) -> Vec<Finding> {
    let events = &state.events;

    // What one failure sets off comes in several complaints. The first names the defect, the others follow from it.
    let mut first: BTreeMap<Key, &str> = BTreeMap::new();
    for event in events {
        if let Some(key) = key(event) {
            first.entry(key).or_insert(&event.title);
        }
    }
    let mut groups: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        let title = key(event).and_then(|key| first.get(&key).copied()).unwrap_or(&event.title);
        groups.entry(title).or_default().push(event);
    }
    let mut all: Vec<Finding> = groups.into_iter().map(|(title, events)| finding(state, title, &events)).collect();
    all.sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| a.title.cmp(&b.title)));
    all
}

fn key(event: &Event) -> Option<Key> {
    event.culprit.map(|(site, after)| (event.section, event.run, site, after))
}

fn finding(state: &State, title: &str, events: &[&Event]) -> Finding {
    let mut found = Finding {
        id: Finding::id_of(title),
        title: title.to_owned(),
        verdict: events.iter().map(|event| event.verdict).max().unwrap_or_default(),
        splat: events.iter().map(|event| &event.splat).find(|splat| !splat.is_empty()).cloned().unwrap_or_default(),
        followed_by: Vec::new(),
        failures: Vec::new(),
        suspects: Vec::new(),
        tries: 0,
        reproduced: 0,
    };
    for event in events {
        if event.title != title && !found.followed_by.contains(&event.title) {
            found.followed_by.push(event.title.clone());
        }
        match event.culprit {
            Some(culprit) => failure(state, event, culprit, events, &mut found.failures),
            None => {
                for suspect in &event.suspects {
                    if !found.suspects.contains(suspect) {
                        found.suspects.push(*suspect);
                    }
                }
            }
        }
    }
    for replayed in state.replayed.iter().filter(|replayed| replayed.title == title) {
        let same = |failure: &&mut FindingFailure| (failure.site, failure.after) == (replayed.site, replayed.after);
        match found.failures.iter_mut().find(same) {
            Some(failure) => {
                failure.tries += replayed.tries;
                failure.reproduced += replayed.reproduced;
            }
            // A suspect that was tried, and is none.
            None if replayed.reproduced == 0 => found.tries += replayed.tries,
            None => found.failures.push(FindingFailure {
                tries: replayed.tries,
                reproduced: replayed.reproduced,
                ..unseen(replayed.site, replayed.after)
            }),
        }
    }
    if found.failures.is_empty() {
        // Suspects that were tried, and did not do it alone.
        let alone = |site: &Signature| state.site(*site).map_or(0, |site| site.alone);
        found.tries += found.suspects.iter().map(alone).sum::<u32>();
    } else {
        found.suspects.clear();
    }
    found.tries += found.failures.iter().map(|failure| failure.tries).sum::<u32>();
    found.reproduced = found.failures.iter().map(|failure| failure.reproduced).sum();
    found
}

fn unseen(site: Signature, after: Option<Signature>) -> FindingFailure {
    FindingFailure {
        site,
        after,
        hit: 1,
        level: None,
        call: None,
        syscall: None,
        outcome: None,
        tries: 0,
        reproduced: 0,
    }
}

fn failure(
    state: &State,
    event: &Event,
    (site, after): (Signature, Option<Signature>),
    events: &[&Event],
    failures: &mut Vec<FindingFailure>,
) {
    let written = state.site(site).map(|site| site.failures.as_slice()).unwrap_or_default();
    let in_run = |event: &Event| {
        let same = |failed: &Failed| failed.after == after && Some(failed.run) == event.run;
        written.iter().find(|(section, failed)| *section == event.section && same(failed)).map(|(_, failed)| failed)
    };
    // Where the machine went down, the failure itself was never written.
    let hit_of = |event: &Event| in_run(event).map_or(event.hit, |failed| failed.hit);
    let hit = hit_of(event);
    if failures.iter().any(|known| (known.site, known.after, known.hit) == (site, after, hit)) {
        return;
    }
    let came = events.iter().filter(|event| event.culprit == Some((site, after)) && hit_of(event) == hit);
    let came: BTreeSet<(usize, Option<u32>)> = came.map(|event| (event.section, event.run)).collect();
    let same = || written.iter().filter(|(_, failed)| failed.after == after && failed.hit == hit);
    let mut tried: BTreeSet<(usize, Option<u32>)> =
        same().map(|(section, failed)| (*section, Some(failed.run))).collect();
    tried.extend(&came);
    // Another try may tell what was asked for; so does who saw the site first.
    let info = state.site(site).and_then(|site| site.info.as_ref());
    let told = in_run(event).or_else(|| same().next_back().map(|(_, failed)| failed));
    failures.push(FindingFailure {
        hit,
        level: event.level.clone().or(told.map(|failed| failed.level.clone())),
        call: told.and_then(|failed| failed.call.clone()).or_else(|| info.and_then(|info| info.call.clone())),
        syscall: told.and_then(|failed| failed.syscall.clone()),
        outcome: in_run(event).map(|failed| failed.outcome.clone()),
        tries: u32::try_from(tried.len()).unwrap_or(u32::MAX),
        reproduced: u32::try_from(came.len()).unwrap_or(u32::MAX),
        ..unseen(site, after)
    });
}
