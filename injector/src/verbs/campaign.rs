//! `injector campaign`: the sweeps of several workloads, one after the other, and one report.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use injector::{
    campaign::{
        CampaignPlan,
        decide::{After, Limits, Step, after, step},
        sweep::{self, Interrupt, SweepEnd, found},
    },
    exit::{Context as _, ExitCode, Result},
    journal, output,
    plan::workload::WorkloadFile,
    report::{
        Report,
        campaign::{self as report, CampaignReport, NotRun},
        known::{self, Known},
    },
    sinks, workloads,
};

/// Runs the sweeps, and reports what all journals of the directory's workloads say.
pub fn campaign(plan: &CampaignPlan) -> Result<ExitCode> {
    let mut known: Vec<Known> = Vec::new();
    for path in &plan.known {
        known.extend(known::read(path)?);
    }
    fs::create_dir_all(&plan.directory).with_context(|| format!("can't make {}", plan.directory.display()))?;
    let (not_run, early) = sweeps(plan)?;
    let reports = reports(plan, &known)?;
    let all = CampaignReport::new(&reports, not_run);
    output::replace(&plan.directory.join("report.txt"), |file| report::text(&all, file))?;
    output::replace(&plan.directory.join("report.json"), |file| report::json(&all, file))?;
    sinks::print(|out| if plan.json { report::json(&all, out) } else { report::text(&all, out) })?;
    Ok(early.unwrap_or_else(|| match (all.has_new_defects(), all.has_failed()) {
        (true, _) => ExitCode::FINDINGS,
        (false, true) => ExitCode::OK,
        (false, false) => ExitCode::NOTHING_FAILED,
    }))
}

/// Runs what is left to do. The outcome: what did not run to its end, and the code of a campaign that ended early.
fn sweeps(plan: &CampaignPlan) -> Result<(Vec<NotRun>, Option<ExitCode>)> {
    let program = std::env::current_exe().context("can't find this program's own file")?;
    let interrupt = Interrupt::watch().context("can't handle signals")?;
    let until = plan.budget.map(|budget| Instant::now() + budget);
    let (mut not_run, mut early) = (Vec::new(), None);
    let count = plan.ours().count();
    for (i, workload) in plan.ours().enumerate() {
        let (_, file) = workload;
        let not = |why: String| NotRun { workload: file.name.clone(), why };
        if early.is_some() || interrupt.is_asked() {
            early = early.or(Some(ExitCode::INTERRUPTED));
            if step(found(plan, file), false, Limits::default()) != Step::Skip {
                not_run.push(not("the campaign ended before".to_owned()));
            }
            continue;
        }
        let missing = workloads::missing(file);
        let limits = Limits {
            left: until.map(|until| until.saturating_duration_since(Instant::now())),
            each: plan.budget_each,
            own: file.budget,
        };
        let what = step(found(plan, file), missing.is_some(), limits);
        sinks::announce(format_args!("campaign: {} of {count}, {}: {}", i + 1, file.name, said(what)));
        let (resume, budget) = match what {
            Step::Skip => continue,
            Step::Missing => {
                not_run.extend(missing.map(|missing| not(missing.to_string())));
                continue;
            }
            Step::Late => {
                not_run.push(not("the campaign's budget was used up".to_owned()));
                continue;
            }
            Step::Start { budget } => (false, budget),
            Step::Resume { budget } => (true, budget),
        };
        let arguments = sweep::arguments(plan, workload, resume, budget);
        let say = |line: &str| eprintln!("{}: {line}", file.name);
        let end = sweep::run(&program, &arguments, &text_of(plan, file), &interrupt, &say);
        let SweepEnd { code, said } = end.with_context(|| format!("the sweep of {}", file.name))?;
        match after(code, interrupt.is_asked()) {
            After::Next => {}
            After::NextSaying => not_run.push(not(format!("{} (exit code {})", without_name(&said), code.0))),
            After::End(code) => {
                not_run.push(not(without_name(&said).to_owned()));
                early = Some(code);
            }
        }
    }
    Ok((not_run, early))
}

/// A sweep's own report.
fn text_of(plan: &CampaignPlan, file: &WorkloadFile) -> PathBuf {
    plan.directory.join(format!("{}.txt", file.name))
}

fn said(step: Step) -> &'static str {
    match step {
        Step::Skip => "done before",
        Step::Missing => "this machine lacks programs",
        Step::Late => "no time left",
        Step::Start { .. } => "sweep",
        Step::Resume { .. } => "the sweep goes on",
    }
}

fn without_name(said: &str) -> &str {
    said.strip_prefix("injector: ").unwrap_or(said)
}

/// The reports of all journals that there are.
fn reports(plan: &CampaignPlan, known: &[Known]) -> Result<Vec<(String, Report)>> {
    let mut reports = Vec::new();
    for (_, file) in plan.ours() {
        let path: &Path = &plan.journal(file);
        let has_content = fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
        if !has_content {
            continue;
        }
        let mut report = Report::of(&journal::read(path)?);
        // A sweep that was refused has nothing to report.
        if report.config.is_some() {
            report.mark_known(known);
            reports.push((file.name.clone(), report));
        }
    }
    Ok(reports)
}
