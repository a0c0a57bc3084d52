//! What two runs differ in: sites that are new, gone, or failed in another number.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    model::{Run, Site},
    words,
};
use crate::{
    events::{Outcomes, frames},
    journal::Signature,
    report::phrase::{number, one_line, plural},
};

/// Version of the JSON: it changes when a member changes its meaning or goes; members may be added.
const SCHEMA: u32 = 1;
/// Callers that a line shows.
const CALLERS: usize = 4;

/// Two runs compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The version of this format.
    pub schema: u32,
    /// The run before.
    pub a: Side,
    /// The run after.
    pub b: Side,
    /// How sites are found again.
    pub by: By,
    /// Sites of B that A has not, most frequent first.
    pub new: Vec<Row>,
    /// Sites of A that B has not, most frequent first.
    pub gone: Vec<Row>,
    /// Sites that were failed in another number, or came to other outcomes; the greatest change first.
    pub changed: Vec<Row>,
    /// How many sites are as they were.
    pub same: usize,
}

/// How sites are found again in the other run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// By their signatures: the same on every boot of the same kernel.
    Signature,
    /// By hook and functions of the stack: signatures are of no use between different kernels.
    Functions,
}

/// One of the two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Its file.
    pub file: String,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// GNU build id of the kernel.
    pub build_id: Option<String>,
    /// When it began.
    pub time: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Failures.
    pub failures: u64,
    /// Sites.
    pub sites: usize,
    /// What is wrong with its file.
    pub remarks: Vec<String>,
}

/// A site, or several with the same functions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Signatures; of B, if it has them.
    pub sites: Vec<Signature>,
    /// The hook.
    pub hook: String,
    /// In A.
    pub a: Option<Sums>,
    /// In B.
    pub b: Option<Sums>,
    /// Frames, innermost first.
    pub stack: Vec<String>,
}

/// What a run did there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sums {
    /// Failures.
    pub count: u64,
    /// Failures in a second of the run.
    pub rate: Option<f64>,
    /// What came of them, where that was asked for.
    pub outcomes: Option<Outcomes>,
}

impl Diff {
    /// Compares two runs.
    #[must_use]
    pub fn new(a: &Run, b: &Run) -> Self {
        let by = if of_one_kernel(a, b) { By::Signature } else { By::Functions };
        let mut diff = Self {
            schema: SCHEMA,
            a: Side::of(a),
            b: Side::of(b),
            by,
            new: Vec::new(),
            gone: Vec::new(),
            changed: Vec::new(),
            same: 0,
        };
        let (mut before, after) = (grouped(a, by), grouped(b, by));
        for (key, group) in after {
            match before.remove(&key) {
                None => diff.new.push(Row { b: Some(group.sums(b)), ..group.row() }),
                Some(old) => {
                    let (old, new) = (old.sums(a), group.sums(b));
                    if old.count == new.count && kinds(&old) == kinds(&new) {
                        diff.same += 1;
                    } else {
                        diff.changed.push(Row { a: Some(old), b: Some(new), ..group.row() });
                    }
                }
            }
        }
        diff.gone = before.into_values().map(|group| Row { a: Some(group.sums(a)), ..group.row() }).collect();
        let count = |sums: &Option<Sums>| sums.map_or(0, |sums| sums.count);
        for rows in [&mut diff.new, &mut diff.gone, &mut diff.changed] {
            rows.sort_by_key(|row| (Reverse(count(&row.a).abs_diff(count(&row.b))), row.sites.first().copied()));
        }
        diff
    }

    /// Whether a site is new or gone.
    #[must_use]
    pub fn has_other_sites(&self) -> bool {
        !self.new.is_empty() || !self.gone.is_empty()
    }

    /// For people in a terminal.
    ///
    /// # Errors
    /// It can't be written.
    pub fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.a.text("A", out)?;
        self.b.text("B", out)?;
        if self.by == By::Functions {
            writeln!(out, "the kernels are different ones: sites are compared by hook and functions of their stacks")?;
        }
        for (rows, what) in [(&self.new, "new in B"), (&self.gone, "gone in B")] {
            if !rows.is_empty() {
                writeln!(out, "\n{} {what}:", plural(rows.len(), "site"))?;
            }
            for row in rows {
                row.text(out)?;
            }
        }
        if !self.changed.is_empty() {
            writeln!(out, "\n{} changed, the greatest change first:", plural(self.changed.len(), "site"))?;
            for row in &self.changed {
                row.text(out)?;
            }
        }
        writeln!(out, "\n{} as before", plural(self.same, "site"))?;
        out.flush()
    }
}

/// Whether signatures of the one mean something in the other.
fn of_one_kernel(a: &Run, b: &Run) -> bool {
    let (Some(a), Some(b)) = (&a.start, &b.start) else { return true };
    match (&a.build_id, &b.build_id) {
        (Some(a), Some(b)) => a == b,
        _ => a.kernel == b.kernel,
    }
}

/// Which outcomes there were.
fn kinds(sums: &Sums) -> Option<[bool; 6]> {
    sums.outcomes.map(|outcomes| outcomes.named().map(|(count, _)| count > 0))
}

/// The sites that are one for a comparison.
struct Group<'a>(Vec<&'a Site>);

fn grouped(run: &Run, by: By) -> BTreeMap<String, Group<'_>> {
    let mut groups: BTreeMap<String, Group<'_>> = BTreeMap::new();
    for site in &run.sites {
        let key = match by {
            By::Signature => site.site.to_string(),
            By::Functions => {
                let functions: Vec<&str> = site.stack.iter().map(|frame| frames::function(frame)).collect();
                format!("{} {}", site.hook, functions.join(" "))
            }
        };
        groups.entry(key).or_insert_with(|| Group(Vec::new())).0.push(site);
    }
    groups
}

impl Group<'_> {
    fn sums(&self, run: &Run) -> Sums {
        let count = self.0.iter().fold(0, |sum: u64, site| sum.saturating_add(site.count));
        let with_outcomes = self.0.iter().any(|site| site.outcomes.is_some());
        Sums {
            count,
            rate: run.rate(count),
            outcomes: with_outcomes.then(|| self.0.iter().filter_map(|site| site.outcomes).sum()),
        }
    }

    fn row(&self) -> Row {
        let sites = self.0.iter().map(|site| site.site).collect();
        let (hook, stack) = self.0.first().map(|site| (site.hook.clone(), site.stack.clone())).unwrap_or_default();
        Row { sites, hook, a: None, b: None, stack }
    }
}

impl Side {
    fn of(run: &Run) -> Self {
        let start = run.start.as_ref();
        Self {
            file: run.file.clone(),
            kernel: start.map(|start| start.kernel.clone()),
            build_id: start.and_then(|start| start.build_id.clone()),
            time: start.map(|start| start.time.clone()),
            seconds: run.seconds,
            failures: run.failures,
            sites: run.sites.len(),
            remarks: run.remarks.clone(),
        }
    }

    fn text(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        let Self { file, kernel, build_id: _, time, seconds, failures, sites, remarks: _ } = self;
        let (failures, sites) = (words::count(*failures, "failure"), plural(*sites, "site"));
        write!(out, "{name}: {}: {failures} at {sites} in {seconds:.1} s", one_line(file))?;
        if let Some(kernel) = kernel {
            write!(out, ", Linux {}", one_line(kernel))?;
        }
        if let Some(time) = time {
            write!(out, ", {}", one_line(time))?;
        }
        writeln!(out)
    }
}

impl Row {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        const INDENT: &str = "             ";
        let hook = one_line(&self.hook);
        let sites: Vec<String> = self.sites.iter().map(ToString::to_string).collect();
        let sites = format!("{} {}", if sites.len() == 1 { "site" } else { "sites" }, sites.join(" "));
        let both = |one: &Sums| one.outcomes.map(|outcomes| words::several(&outcomes.named()));
        match (&self.a, &self.b) {
            (Some(a), Some(b)) => {
                write!(out, "\n{:>10} -> {} x {hook} {sites}", number(a.count), number(b.count))?;
                if let (Some(before), Some(after)) = (a.rate, b.rate) {
                    write!(out, ", {} -> {}", words::rate(before), words::rate(after))?;
                }
                writeln!(out)?;
                if let (Some(before), Some(after)) = (both(a), both(b)) {
                    writeln!(out, "{INDENT}{before} -> {after}")?;
                }
            }
            (one, other) => {
                let Some(sums) = one.or(*other) else { return Ok(()) };
                write!(out, "\n{:>10} x {hook} {sites}", number(sums.count))?;
                writeln!(out, "{}", sums.rate.map(|rate| format!(", {}", words::rate(rate))).unwrap_or_default())?;
                if let Some(outcomes) = both(&sums) {
                    writeln!(out, "{INDENT}{outcomes}")?;
                }
            }
        }
        for frame in frames::callers(&self.stack).iter().take(CALLERS) {
            writeln!(out, "{INDENT}{}", one_line(frame))?;
        }
        Ok(())
    }
}
