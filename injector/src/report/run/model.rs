//! What all forms of a run's report say. The names are those of the JSON.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use serde::Serialize;

use super::{
    line::{self, Counters, InOrder, Start},
    tally::{Span, Tally, Timeline},
};
use crate::{
    events::Outcomes,
    journal::Signature,
    symbols::{self, LineSources, Lines, LinesError},
};

/// Version of the JSON: it changes when a member changes its meaning or goes; members may be added.
pub const SCHEMA: u32 = 1;

/// All there is to say of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The file.
    pub file: String,
    /// The run's start; none if its line is lost.
    pub start: Option<Start>,
    /// The run's end; none if it was killed.
    pub end: Option<End>,
    /// Failures: exact if the run came to its end, else those whose lines are there.
    pub failures: u64,
    /// Failures whose lines are there.
    pub lines_of_failures: u64,
    /// How long it took, seconds; to the last failure if it did not come to its end.
    pub seconds: f64,
    /// What came of the failures, where that was asked for.
    pub outcomes: Option<Outcomes>,
    /// The rules, in the plan's order.
    pub rules: Vec<Rule>,
    /// By system call, where outcomes were asked for; the one that failed most often first.
    pub syscalls: Vec<Syscall>,
    /// The sites, most frequent first.
    pub sites: Vec<Site>,
    /// Failures by time.
    pub timeline: Timeline,
    /// Source lines of frames, where they were looked up and found.
    #[serde(skip_serializing_if = "Lines::is_empty")]
    pub lines: Lines,
    /// What is wrong with the file.
    pub remarks: Vec<String>,
}

/// How a run ended, as its last line has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// Why it ended.
    pub end: String,
    /// Exit status of the command.
    pub command_status: Option<i32>,
    /// Counters per hook.
    pub hooks: InOrder<Counters>,
    /// Executions of the hooks.
    pub calls: u64,
    /// Calls that every filter accepted.
    pub matches: u64,
    /// Failures whose event arrived.
    pub delivered: u64,
    /// Failures whose event found the ring full.
    pub lost: u64,
    /// Matches that a guard held back.
    pub suppressed: u64,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Failures, as in [`Run::failures`].
    pub failures: u64,
    /// Counters per hook, if the run came to its end.
    pub hooks: InOrder<Counters>,
}

/// A system call in which failures were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Syscall {
    /// Its name; none for failures outside of system calls.
    pub syscall: Option<String>,
    /// What came of them.
    pub outcomes: Outcomes,
}

/// A site that was failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    /// Its signature.
    pub site: Signature,
    /// The hook.
    pub hook: String,
    /// How often, as in [`Run::failures`].
    pub count: u64,
    /// Failures whose lines are there; what follows is of them.
    pub lines_of_failures: u64,
    /// Seconds from the start to the first and last failure.
    pub first: Option<f64>,
    /// The same for the last.
    pub last: Option<f64>,
    /// By the rule that failed it.
    pub rules: Tally,
    /// By the effective GFP flags.
    pub gfp: Tally,
    /// By slab cache.
    pub caches: Tally,
    /// By the task's name.
    pub tasks: Tally,
    /// By what kind of code it was called in.
    pub contexts: Tally,
    /// Bytes asked for.
    pub sizes: Option<Span>,
    /// Orders asked for.
    pub orders: Option<Span>,
    /// What came of it, where that was asked for.
    pub outcomes: Option<Outcomes>,
    /// Frames, innermost first; empty if they are lost.
    pub stack: Vec<String>,
}

impl Run {
    /// The frames of all stacks.
    #[must_use]
    pub fn frames(&self) -> BTreeSet<&str> {
        self.sites.iter().flat_map(|site| &site.stack).map(String::as_str).collect()
    }

    /// Looks up the source lines of all frames.
    ///
    /// # Errors
    /// The file that the user named can't be used.
    pub fn look_up_lines(&mut self, search: &LineSources) -> Result<(), LinesError> {
        let start = self.start.as_ref();
        let kernel = symbols::Kernel {
            release: start.map_or("", |start| &start.kernel),
            build_id: start.and_then(|start| start.build_id.as_deref()),
        };
        self.lines = symbols::lines(&self.frames(), kernel, search)?;
        Ok(())
    }

    /// Whether everything but the failing was done.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.dry_run)
    }

    /// So many in a second of the run.
    #[must_use]
    pub fn rate(&self, count: u64) -> Option<f64> {
        (self.seconds > 0.0).then(|| count as f64 / self.seconds)
    }
}

/// Puts a run together, line by line.
#[derive(Debug, Default)]
pub(super) struct Builder {
    start: Option<Start>,
    /// When the run began, or the first failure if that is lost.
    began: Option<u64>,
    /// Since then, to the last failure.
    elapsed_ns: u64,
    failures: u64,
    sites: HashMap<Signature, Gathered>,
    rules: Vec<(Box<str>, u64)>,
    syscalls: HashMap<Option<Box<str>>, Outcomes>,
    timeline: Timeline,
    summary: Option<Ended>,
}

#[derive(Debug)]
struct Ended {
    end: End,
    elapsed_ns: u64,
    failures: u64,
    rules: Vec<line::RuleSummary>,
}

/// What the lines say of a site.
#[derive(Debug)]
struct Gathered {
    /// Nanoseconds since the start.
    first_and_last: Option<(u64, u64)>,
    outcomes: Outcomes,
    /// The summary has counted it.
    exact: bool,
    site: Site,
}

impl Gathered {
    fn new(site: Signature, hook: &str) -> Self {
        let site = Site {
            site,
            hook: hook.to_owned(),
            count: 0,
            lines_of_failures: 0,
            first: None,
            last: None,
            rules: Tally::default(),
            gfp: Tally::default(),
            caches: Tally::default(),
            tasks: Tally::default(),
            contexts: Tally::default(),
            sizes: None,
            orders: None,
            outcomes: None,
            stack: Vec::new(),
        };
        Self { first_and_last: None, outcomes: Outcomes::default(), exact: false, site }
    }

    /// Outcomes whose site has not been heard of have no hook; it comes with the site.
    fn describe(&mut self, hook: &str, stack: &[line::Text<'_>]) {
        hook.clone_into(&mut self.site.hook);
        if self.site.stack.is_empty() {
            self.site.stack = stack.iter().map(|frame| frame.0.clone().into_owned()).collect();
        }
    }
}

impl Builder {
    /// Whether the line of the start was there.
    pub(super) fn has_start(&self) -> bool {
        self.start.is_some()
    }

    pub(super) fn start(&mut self, start: Start) {
        self.began = Some(start.time_ns);
        self.start = Some(start);
    }

    pub(super) fn site(&mut self, line: &line::SiteLine<'_>) {
        self.gathered(line.site, &line.hook).describe(&line.hook, &line.stack);
    }

    fn gathered(&mut self, site: Signature, hook: &str) -> &mut Gathered {
        match self.sites.entry(site) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Gathered::new(site, hook)),
        }
    }

    pub(super) fn failure(&mut self, line: &line::Failure<'_>) {
        let line::Failure { time_ns, rule, hook, effective_gfp, order, size, cache, comm, context, site } = line;
        let since = time_ns.saturating_sub(*self.began.get_or_insert(*time_ns));
        self.failures += 1;
        self.elapsed_ns = self.elapsed_ns.max(since);
        self.timeline.count(since);
        match self.rules.iter_mut().find(|(known, _)| **known == **rule) {
            Some((_, count)) => *count += 1,
            None => self.rules.push((rule.as_ref().into(), 1)),
        }
        let gathered = self.gathered(*site, hook);
        gathered.first_and_last = Some(match gathered.first_and_last {
            None => (since, since),
            Some((first, last)) => (first.min(since), last.max(since)),
        });
        let site = &mut gathered.site;
        site.lines_of_failures += 1;
        site.rules.count(rule);
        let tallies = [
            (&mut site.gfp, effective_gfp),
            (&mut site.caches, cache),
            (&mut site.tasks, comm),
            (&mut site.contexts, context),
        ];
        for (tally, value) in tallies {
            if let Some(line::Text(value)) = value {
                tally.count(value);
            }
        }
        if let Some(size) = size {
            Span::add(&mut site.sizes, *size);
        }
        if let Some(order) = order {
            Span::add(&mut site.orders, u64::from(*order));
        }
    }

    pub(super) fn outcome(&mut self, line: &line::OutcomeLine<'_>) {
        let line::OutcomeLine { site, syscall, is, count } = line;
        let count = count.unwrap_or(1);
        self.gathered(*site, "").outcomes.add(*is, count);
        let name = syscall.as_ref().map(|line::Text(name)| name.as_ref().into());
        self.syscalls.entry(name).or_default().add(*is, count);
    }

    pub(super) fn summary(&mut self, line: line::Summary<'_>) {
        let line::Summary {
            elapsed_ns,
            end,
            command_status,
            hooks,
            rules,
            calls,
            matches,
            failures,
            delivered,
            lost,
            suppressed,
            sites,
        } = line;
        for site in sites {
            let gathered = self.gathered(site.site, &site.hook);
            gathered.describe(&site.hook, &site.stack);
            gathered.exact = true;
            gathered.site.count = site.count;
            gathered.site.outcomes = site.outcomes;
        }
        let end = End { end: end.into_owned(), command_status, hooks, calls, matches, delivered, lost, suppressed };
        self.summary = Some(Ended { end, elapsed_ns, failures, rules });
    }

    /// The run, with what the reader has to say about its file.
    pub(super) fn finish(self, file: &str, mut remarks: Vec<String>) -> Run {
        let Self {
            start,
            began: _,
            elapsed_ns,
            failures: lines_of_failures,
            sites,
            rules,
            syscalls,
            timeline,
            summary,
        } = self;
        let quiet = start.as_ref().is_some_and(|start| start.plan["output"]["quiet"] == true);
        let (end, elapsed_ns, failures, of_summary) = match summary {
            Some(Ended { end, elapsed_ns, failures, rules }) => {
                if !quiet && end.delivered != lines_of_failures {
                    remarks.push(format!(
                        "the lines of {lines_of_failures} failures are there, not of {} as the last line says; sites \
                         and totals are exact all the same",
                        end.delivered
                    ));
                }
                (Some(end), elapsed_ns, failures, rules)
            }
            None => {
                remarks.push(format!(
                    "the run's last line is not there: what is counted are the lines of {lines_of_failures} failures"
                ));
                (None, elapsed_ns, lines_of_failures, Vec::new())
            }
        };
        let with_outcomes = !syscalls.is_empty() || sites.values().any(|gathered| gathered.site.outcomes.is_some());
        let mut sites: Vec<Site> = sites.into_values().map(|gathered| gathered.finish(with_outcomes)).collect();
        // Sites whose failures are lost with their lines.
        sites.retain(|site| site.count > 0);
        sites.sort_by_key(|site| (std::cmp::Reverse(site.count), site.site));
        let mut syscalls: Vec<Syscall> = syscalls
            .into_iter()
            .map(|(syscall, outcomes)| Syscall { syscall: syscall.map(Into::into), outcomes })
            .collect();
        syscalls.sort_by(|a, b| b.outcomes.sum().cmp(&a.outcomes.sum()).then(a.syscall.cmp(&b.syscall)));
        Run {
            schema: SCHEMA,
            file: file.to_owned(),
            start,
            end,
            failures,
            lines_of_failures,
            seconds: elapsed_ns as f64 / 1e9,
            outcomes: with_outcomes.then(|| sites.iter().filter_map(|site| site.outcomes).sum()),
            rules: united(of_summary, rules),
            syscalls,
            sites,
            timeline,
            lines: Lines::new(),
            remarks,
        }
    }
}

impl Gathered {
    fn finish(self, with_outcomes: bool) -> Site {
        let Self { first_and_last, mut outcomes, exact, mut site } = self;
        if !exact {
            site.count = site.lines_of_failures;
        }
        if with_outcomes && site.outcomes.is_none() {
            outcomes.open = site.count.saturating_sub(outcomes.sum());
            site.outcomes = Some(outcomes);
        }
        let seconds = |since: u64| since as f64 / 1e9;
        site.first = first_and_last.map(|(first, _)| seconds(first));
        site.last = first_and_last.map(|(_, last)| seconds(last));
        site
    }
}

/// The rules as the summary has them; without one, as the failures do.
fn united(of_summary: Vec<line::RuleSummary>, counted: Vec<(Box<str>, u64)>) -> Vec<Rule> {
    if of_summary.is_empty() {
        let rule = |(name, failures): (Box<str>, u64)| Rule { name: name.into(), failures, hooks: InOrder(Vec::new()) };
        return counted.into_iter().map(rule).collect();
    }
    let failures = |hooks: &InOrder<Counters>| {
        hooks.0.iter().map(|(_, counters)| counters.get("failures")).fold(0, u64::saturating_add)
    };
    of_summary
        .into_iter()
        .map(|line::RuleSummary { name, hooks }| Rule { name, failures: failures(&hooks), hooks })
        .collect()
}
