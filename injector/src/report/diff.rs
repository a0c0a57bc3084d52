//! What two sweeps differ in: findings, sites by function, and coverage.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use serde::Serialize;

use super::{
    known::{self, Chain, Known},
    model::{Report, SiteRow},
    phrase::{self, number, one_line, plural},
    run::By,
};
use crate::{
    events::frames,
    foreign::write_lines,
    journal::{Counts, Signature, Verdict},
};

/// Version of the JSON: it changes when a member changes its meaning or goes; members may be added.
pub const SCHEMA: u32 = 1;
/// Functions that the text lists.
const FUNCTIONS: usize = 20;

/// Two sweeps compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepDiff {
    /// The version of this format.
    pub schema: u32,
    /// The sweep before.
    pub a: Side,
    /// The sweep after.
    pub b: Side,
    /// How sites are found again.
    pub by: By,
    /// The findings.
    pub findings: Findings,
    /// Sites of B that A has not, by function, the most first.
    pub new_sites: Vec<Function>,
    /// Sites of A that B has not, by function, the most first.
    pub gone_sites: Vec<Function>,
    /// How many sites both have.
    pub same_sites: usize,
}

/// One of the two sweeps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Its journal.
    pub file: String,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// GNU build id of the kernel.
    pub build_id: Option<String>,
    /// The workload.
    pub workload: Option<String>,
    /// The sweep has done all that it could.
    pub complete: bool,
    /// Findings.
    pub findings: usize,
    /// Sites, by what became of them.
    pub counts: Counts,
    /// The same of those that runs without failures reached.
    pub inventory: Counts,
    /// What is wrong with the journal.
    pub remarks: Vec<String>,
}

/// What became of the findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Those of B that A has not.
    pub new: Vec<Finding>,
    /// Those of A that B has not.
    pub gone: Vec<Finding>,
    /// Those that both have, but from other allocations.
    pub moved: Vec<Moved>,
    /// How many are as they were.
    pub same: usize,
}

/// A finding of one of the sweeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its id.
    pub id: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Its title.
    pub title: String,
    /// Call chains of the allocations that failed.
    pub chains: BTreeSet<Chain>,
    /// How many sites with such a call chain the other sweep failed; null where none is known.
    pub sites_failed: Option<usize>,
}

/// A finding that comes from elsewhere now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Its id.
    pub id: String,
    /// Its verdict, in B.
    pub verdict: Verdict,
    /// Its title.
    pub title: String,
    /// Call chains of the allocations that failed in A.
    pub from: BTreeSet<Chain>,
    /// The same in B.
    pub to: BTreeSet<Chain>,
}

/// A function with sites that one of the sweeps has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Function {
    /// Its module or subsystem.
    pub module: String,
    /// Its name.
    pub function: String,
    /// How many sites.
    pub sites: usize,
}

impl SweepDiff {
    /// Compares two sweeps.
    #[must_use]
    pub fn new(a: &Report, b: &Report) -> Self {
        let by = if of_one_kernel(a, b) { By::Signature } else { By::Functions };
        let (before, after) = (grouped(a, by), grouped(b, by));
        let only_in = |one: &BTreeMap<String, Vec<&SiteRow>>, other: &BTreeMap<String, Vec<&SiteRow>>| {
            by_function(one.iter().filter(|(key, _)| !other.contains_key(*key)).map(|(_, rows)| rows.as_slice()))
        };
        Self {
            schema: SCHEMA,
            a: Side::of(a),
            b: Side::of(b),
            by,
            findings: Findings::new(a, b),
            new_sites: only_in(&after, &before),
            gone_sites: only_in(&before, &after),
            same_sites: after.keys().filter(|key| before.contains_key(*key)).count(),
        }
    }

    /// Whether a finding is new, gone or moved. Sites come and go by themselves.
    #[must_use]
    pub fn has_other_findings(&self) -> bool {
        let Findings { new, gone, moved, same: _ } = &self.findings;
        !new.is_empty() || !gone.is_empty() || !moved.is_empty()
    }

    /// For people in a terminal.
    ///
    /// # Errors
    /// It can't be written.
    pub fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        write_lines(out, |out| self.whole(out))
    }

    fn whole(&self, out: &mut dyn Write) -> io::Result<()> {
        self.a.text("A", out)?;
        self.b.text("B", out)?;
        if self.a.workload != self.b.workload {
            writeln!(out, "the workloads are different ones")?;
        }
        if self.by == By::Functions {
            writeln!(out, "the kernels are different ones: sites are compared by hook and functions of their stacks")?;
        }
        self.findings.text(out)?;
        for (functions, what) in [(&self.new_sites, "new in B"), (&self.gone_sites, "gone in B")] {
            if functions.is_empty() {
                continue;
            }
            let sites: usize = functions.iter().map(|function| function.sites).sum();
            writeln!(out, "\n{} {what}, in {}:", plural(sites, "site"), plural(functions.len(), "function"))?;
            for Function { module, function, sites } in functions.iter().take(FUNCTIONS) {
                writeln!(out, "{:>8}  {} [{}]", number(*sites as u64), one_line(function), one_line(module))?;
            }
            if functions.len() > FUNCTIONS {
                writeln!(out, "          … {} more, see --json", number((functions.len() - FUNCTIONS) as u64))?;
            }
        }
        writeln!(out, "\n{} in both", plural(self.same_sites, "site"))?;
        out.flush()
    }
}

impl Findings {
    fn new(a: &Report, b: &Report) -> Self {
        let (before, after) = (known::of_report(a, &a.journal), known::of_report(b, &b.journal));
        let only_in = |report: &Report, own: &[Known], other_report: &Report, others: &[Known]| -> Vec<Finding> {
            let is_other = |found: &super::Found| !others.iter().any(|other| other.is_finding(report, &found.finding));
            let pairs = report.findings.iter().zip(own).filter(|(found, _)| is_other(found));
            let finding = |found: &super::Found, known: &Known| Finding {
                id: found.finding.id.clone(),
                verdict: found.finding.verdict,
                title: known.title.clone(),
                chains: known.chains.clone(),
                sites_failed: other_report.sites_failed(&known.chains),
            };
            pairs.map(|(found, known)| finding(found, known)).collect()
        };
        let (mut new, mut gone) = (only_in(b, &after, a, &before), only_in(a, &before, b, &after));
        let same = after.len() - new.len();
        let mut moved = Vec::new();
        new.retain(|new| match gone.iter().position(|gone| gone.title == new.title) {
            Some(at) => {
                let Finding { id, verdict, title, chains: to, .. } = new.clone();
                moved.push(Moved { id, verdict, title, from: gone.remove(at).chains, to });
                false
            }
            None => true,
        });
        Self { new, gone, moved, same }
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let names = |chains: &BTreeSet<Chain>| chains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let titled = |verdict: Verdict, title: &str, id: &str| format!("{verdict}: {} ({id})", one_line(title));
        for (findings, what, other) in [(&self.new, "new in B", "A"), (&self.gone, "gone in B", "B")] {
            if !findings.is_empty() {
                writeln!(out, "\n{} {what}:", plural(findings.len(), "finding"))?;
            }
            for Finding { id, verdict, title, chains, sites_failed } in findings {
                writeln!(out, "  {}", titled(*verdict, title, id))?;
                match sites_failed {
                    Some(0) => writeln!(out, "    from {}, of which {other} failed no site", names(chains))?,
                    Some(sites) => {
                        let sites = plural(*sites, "site");
                        writeln!(out, "    from {}, of which {other} failed {sites}", names(chains))?;
                    }
                    None => writeln!(out, "    not narrowed down to a site")?,
                }
            }
        }
        if !self.moved.is_empty() {
            writeln!(out, "\n{} moved:", plural(self.moved.len(), "finding"))?;
        }
        for Moved { id, verdict, title, from, to } in &self.moved {
            writeln!(out, "  {}", titled(*verdict, title, id))?;
            writeln!(out, "    from {} to {}", names(from), names(to))?;
        }
        writeln!(out, "\n{} in both", plural(self.same, "finding"))
    }
}

impl Side {
    fn of(report: &Report) -> Self {
        let config = report.config.as_ref();
        Self {
            file: report.journal.clone(),
            kernel: config.map(|config| config.kernel.release.clone()),
            build_id: config.and_then(|config| config.kernel.build_id.clone()),
            workload: config.map(phrase::workload),
            complete: report.complete,
            findings: report.findings.len(),
            counts: report.counts,
            inventory: report.inventory,
            remarks: report.remarks.clone(),
        }
    }

    fn text(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{name}: {}: {}", one_line(&self.file), plural(self.findings, "finding"))?;
        if let Some(kernel) = &self.kernel {
            write!(out, ", Linux {}", one_line(kernel))?;
        }
        if let Some(workload) = &self.workload {
            write!(out, ", {workload}")?;
        }
        writeln!(out, "{}", if self.complete { "" } else { ", did not finish" })?;
        writeln!(out, "   {}", phrase::counts(&self.counts))?;
        if let Some(inventory) = phrase::inventory(&self.counts, &self.inventory) {
            writeln!(out, "   {inventory}")?;
        }
        Ok(())
    }
}

/// Whether signatures of the one mean something in the other.
fn of_one_kernel(a: &Report, b: &Report) -> bool {
    let (Some(a), Some(b)) = (&a.config, &b.config) else { return true };
    match (&a.kernel.build_id, &b.kernel.build_id) {
        (Some(a), Some(b)) => a == b,
        _ => a.kernel.release == b.kernel.release,
    }
}

/// The sites by what makes them the same in the other sweep.
fn grouped(report: &Report, by: By) -> BTreeMap<String, Vec<&SiteRow>> {
    let mut groups: BTreeMap<String, Vec<&SiteRow>> = BTreeMap::new();
    let key = |signature: &Signature, site: &SiteRow| match by {
        By::Signature => signature.to_string(),
        By::Functions => {
            let functions: Vec<&str> = site.stack.iter().map(|frame| frames::function(frame)).collect();
            format!("{} {}", site.hook(), functions.join(" "))
        }
    };
    for (signature, site) in &report.sites {
        groups.entry(key(signature, site)).or_default().push(site);
    }
    groups
}

/// Adds up groups of sites by function, the most first.
fn by_function<'a>(groups: impl Iterator<Item = &'a [&'a SiteRow]>) -> Vec<Function> {
    let mut sums: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for site in groups.filter_map(|rows| rows.first()) {
        *sums.entry((&site.module, site.function())).or_default() += 1;
    }
    let mut all: Vec<Function> = sums
        .into_iter()
        .map(|((module, function), sites)| Function { module: module.to_owned(), function: function.to_owned(), sites })
        .collect();
    all.sort_by_key(|function| Reverse(function.sites));
    all
}
