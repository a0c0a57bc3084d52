//! The report of a campaign: the defects that its sweeps found, each once, what each workload covers, and what did not run.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde::Serialize;

use super::known::{self, Known};
use super::model::Report;
use super::phrase::{self, one_line, plural};
use crate::journal::{Counts, Verdict};

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// The report. The names are those of the JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CampaignReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Every workload of this part ran to its end.
    pub complete: bool,
    /// The kernels under test.
    pub kernels: BTreeSet<String>,
    /// The defects, new ones first, then the worst, then those that most workloads show.
    pub defects: Vec<Defect>,
    /// The workloads of which there are journals.
    pub workloads: Vec<Row>,
    /// The workloads that did not run, or not to their end, and why.
    pub not_run: Vec<NotRun>,
}

/// A defect: findings with the same title, of allocations that are the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Defect {
    /// The worst that came of it.
    pub verdict: Verdict,
    /// Its title.
    pub title: String,
    /// It is known: by this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Call chains of the allocations whose failure leads to it.
    pub chains: BTreeSet<known::Chain>,
    /// The findings.
    pub seen: Vec<Seen>,
}

/// A finding of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The workload.
    pub workload: String,
    /// The finding.
    pub finding: String,
    /// How often it came again.
    pub reproduced: u32,
    /// How often it was tried.
    pub tries: u32,
    /// The command that tries it again.
    pub replay: String,
}

/// What a workload covers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub workload: String,
    /// The journal.
    pub journal: String,
    /// Its sweep is over.
    pub complete: bool,
    /// Its sites by what became of them.
    #[serde(flatten)]
    pub counts: Counts,
    /// Findings of this workload.
    pub findings: usize,
    /// Seconds without injection.
    pub plain: Option<f64>,
    /// Seconds of the sweep.
    pub sweep: f64,
}

/// A workload that did not run, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotRun {
    /// Its name.
    pub workload: String,
    /// Why.
    pub why: String,
}

impl CampaignReport {
    /// Puts the reports of workloads together. Known findings are marked in them already.
    #[must_use]
    pub fn new(reports: &[(String, Report)], not_run: Vec<NotRun>) -> Self {
        let mut defects: Vec<(Known, Defect)> = Vec::new();
        for (workload, report) in reports {
            for (known, found) in known::of_report(report, workload).into_iter().zip(&report.findings) {
                let finding = &found.finding;
                let seen = Seen {
                    workload: workload.clone(),
                    finding: finding.id.clone(),
                    reproduced: finding.reproduced,
                    tries: finding.tries,
                    replay: found.replay.clone(),
                };
                let same = |(known, _): &&mut (Known, Defect)| {
                    !is_nameless(&finding.title) && known.is_finding(report, finding)
                };
                match defects.iter_mut().find(same) {
                    Some((_, defect)) => {
                        defect.verdict = defect.verdict.max(finding.verdict);
                        defect.chains.extend(known.chains);
                        defect.seen.push(seen);
                    }
                    None => {
                        let defect = Defect {
                            verdict: finding.verdict,
                            title: finding.title.clone(),
                            known: found.known.clone(),
                            chains: known.chains.clone(),
                            seen: vec![seen],
                        };
                        defects.push((known, defect));
                    }
                }
            }
        }
        let mut defects: Vec<Defect> = defects.into_iter().map(|(_, defect)| defect).collect();
        let rank = |defect: &Defect| {
            let worst_first = std::cmp::Reverse((defect.verdict, defect.workloads().len()));
            (defect.known.is_some(), worst_first, defect.title.clone())
        };
        defects.sort_by_key(rank);
        let kernels = reports.iter().filter_map(|(_, report)| report.config.as_ref());
        Self {
            schema: SCHEMA,
            complete: not_run.is_empty() && reports.iter().all(|(_, report)| report.complete),
            kernels: kernels.map(|config| config.kernel.release.clone()).collect(),
            defects,
            workloads: reports.iter().map(|(workload, report)| Row::new(workload, report)).collect(),
            not_run,
        }
    }

    /// Whether there is a defect that is not known.
    #[must_use]
    pub fn has_new_defects(&self) -> bool {
        self.defects.iter().any(|defect| defect.known.is_none())
    }

    /// Whether any site was failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let failed = |row: &Row| row.counts.failed + row.counts.masked > 0 || row.findings > 0;
        self.workloads.iter().any(failed)
    }
}

/// Whether a title says no more than that the machine went down: two of these may be two defects.
fn is_nameless(title: &str) -> bool {
    title.starts_with("the machine ") || title == "the kernel panicked"
}

impl Defect {
    /// The workloads that show it.
    fn workloads(&self) -> BTreeSet<&str> {
        self.seen.iter().map(|seen| seen.workload.as_str()).collect()
    }
}

impl Row {
    fn new(workload: &str, report: &Report) -> Self {
        Self {
            workload: workload.to_owned(),
            journal: report.journal.clone(),
            complete: report.complete,
            counts: report.counts,
            findings: report.findings.len(),
            plain: report.times.plain,
            sweep: report.times.sweep,
        }
    }
}

/// The report as text: defects first.
///
/// # Errors
/// It can't be written.
pub fn text(report: &CampaignReport, out: &mut dyn Write) -> io::Result<()> {
    let CampaignReport { schema: _, complete, kernels, defects, workloads, not_run } = report;
    let new = defects.iter().filter(|defect| defect.known.is_none()).count();
    let known = defects.len() - new;
    let known = if known > 0 { format!(", and {known} known") } else { String::new() };
    let kernels: Vec<&str> = kernels.iter().map(String::as_str).collect();
    let on = if kernels.is_empty() { String::new() } else { format!(" on Linux {}", kernels.join(", ")) };
    writeln!(out, "{}{known}, from {}{on}", plural(new, "defect"), plural(workloads.len(), "workload"))?;
    if !complete {
        writeln!(out, "the campaign is not complete: the same command goes on")?;
    }
    for defect in defects {
        self::defect(defect, out)?;
    }
    if !workloads.is_empty() {
        writeln!(out, "\ncoverage:")?;
    }
    let width = workloads.iter().map(|row| row.workload.len()).max().unwrap_or_default();
    for row in workloads {
        let rest = if row.complete { "" } else { ", not finished" };
        let findings = if row.findings > 0 { format!(", {}", plural(row.findings, "finding")) } else { String::new() };
        let took = row.sweep;
        let counts = phrase::counts(&row.counts);
        writeln!(out, "  {:width$}  {counts}{findings}, {took:.0} s{rest}", row.workload)?;
    }
    if !not_run.is_empty() {
        writeln!(out, "\nnot run, or not to the end:")?;
    }
    let width = not_run.iter().map(|not| not.workload.len()).max().unwrap_or_default();
    for NotRun { workload, why } in not_run {
        writeln!(out, "  {workload:width$}  {}", one_line(why))?;
    }
    out.flush()
}

fn defect(defect: &Defect, out: &mut dyn Write) -> io::Result<()> {
    let Defect { verdict, title, known, chains, seen } = defect;
    let known = known.as_ref().map_or_else(String::new, |file| format!(" [{}]", one_line(file)));
    writeln!(out, "\n{verdict}: {}{}{known}", one_line(title), phrase::at(chains))?;
    for Seen { workload, finding, reproduced, tries, replay } in seen {
        writeln!(out, "  {workload}: finding {finding}, {}", phrase::tries(*reproduced, *tries))?;
        writeln!(out, "    {}", one_line(replay))?;
    }
    Ok(())
}

/// The report as one JSON object.
///
/// # Errors
/// It can't be written.
pub fn json(report: &CampaignReport, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)?;
    out.flush()
}
