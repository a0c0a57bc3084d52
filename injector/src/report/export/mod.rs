//! `injector export`: a finding as a shell script that needs no injector, for kernels with the kernel's own fault injection
//! (FAILSLAB, FAIL_PAGE_ALLOC).
//!
//! That can fail the calls that have one range of addresses in their stack, and none of another range. [`aim`] finds the ranges
//! that tell a site from all others that the journal knows. [`script`] writes the script.

mod aim;

use std::fmt::Write as _;

pub use aim::Aim;

use crate::{
    events::Context,
    journal::{Finding, FindingFailure, Signature, Verdict, record::Place},
    plan::Hook,
    report::{Report, SiteRow},
};

/// What does not depend on the finding.
const BODY: &str = include_str!("reproduce.sh");
/// Frames of a stack that the script's comment shows.
const FRAMES: usize = 8;

/// Why a finding can't be exported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExportable {
    /// Nobody knows which failure it is.
    #[error(
        "finding {id} can't be exported: it is not narrowed down to a failure yet; try injector minimize {journal} {id} first"
    )]
    NotNarrowedDown {
        /// The finding.
        id: String,
        /// The journal, quoted for a shell.
        journal: String,
    },
    /// The kernel's own fault injection has no such point.
    #[error(
        "finding {id} can't be exported: the kernel's own fault injection has no point for the hook {hook}, only for slab and page"
    )]
    NoPoint {
        /// The finding.
        id: String,
        /// The hook.
        hook: String,
    },
    /// The journal has lost what the site is.
    #[error("finding {id} can't be exported: the journal has lost the line that describes site {site}")]
    NoSite {
        /// The finding.
        id: String,
        /// The site.
        site: Signature,
    },
    /// All frames are too far from the allocation.
    #[error(
        "finding {id} can't be exported: site {site} has no named function within the {} innermost frames, and the kernel looks at no more",
        aim::DEPTH
    )]
    NoFrame {
        /// The finding.
        id: String,
        /// The site.
        site: Signature,
    },
    /// The workload is not known.
    #[error("finding {id} can't be exported: the journal does not say what the workload is")]
    NoWorkload {
        /// The finding.
        id: String,
    },
}

crate::exit::has_exit_code!(NotExportable => USAGE);

/// A point of the kernel's fault injection, and what fails there.
struct Point<'a> {
    /// Its directory in debugfs.
    name: &'static str,
    /// The failure's site.
    site: &'a SiteRow,
    signature: Signature,
    aim: Aim,
    /// What a call counts as, in `space`.
    size: u64,
    /// So many calls before it do not fail.
    skip: u32,
}

/// A shell script that makes a finding happen.
///
/// # Errors
/// The kernel's own fault injection can't make these failures.
pub fn script(report: &Report, finding: &Finding) -> Result<String, NotExportable> {
    let id = || finding.id.clone();
    let best = finding.failures.iter().max_by_key(|failure| failure.reproduced).ok_or_else(|| {
        let journal = quote(&report.journal);
        NotExportable::NotNarrowedDown { id: id(), journal }
    })?;
    let config = report.config.as_ref().ok_or_else(|| NotExportable::NoWorkload { id: id() })?;
    let points = points(report, finding, best)?;
    let function = points.iter().find(|point| point.name == "fail_function").map(|point| point.site.hook);
    let (function, value) = match function.flatten() {
        Some(Hook::Slab) => ("should_failslab", "0xfffffffffffffff4"),
        Some(_) => ("should_fail_alloc_page", "1"),
        None => ("", ""),
    };
    // A kernel thread or an interrupt is not of the workload.
    let of_tasks = |point: &Point<'_>| {
        !point.site.kthread
            && point.site.context == Some(Context::Task)
            && !matches!(point.site.place, Some(Place::Kthread | Place::Interrupt))
    };
    let tasks = if points.iter().all(of_tasks) { "Y" } else { "N" };
    let options = report.sweeps.first().map(|sweep| &sweep.options);
    let times = options.and_then(|options| options.persistent).unwrap_or(1);
    let (shows, place) = shows(finding);
    let workload = &config.workload;
    let names: Vec<&str> = points.iter().map(|point| point.name).collect();

    let mut text = String::from("#!/bin/sh\n");
    // Text from a journal must not leave its comment.
    let mut comment = |line: &str| {
        let line = line.replace(|c: char| c.is_control(), "?");
        let _ = writeln!(text, "#{}{line}", if line.is_empty() { "" } else { " " });
    };
    comment(&format!("Reproduces: {}", finding.title));
    comment("");
    comment(
        "injector sweep found it by failing allocations. This script needs no injector, only the kernel's own fault",
    );
    comment("injection (Documentation/fault-injection): FAILSLAB, FAIL_PAGE_ALLOC, FAULT_INJECTION_DEBUG_FS and");
    comment(
        "FAULT_INJECTION_STACKTRACE_FILTER (on x86-64 since Linux 6.2). Run it as root, in a machine that may crash.",
    );
    comment("");
    comment("  sh SCRIPT [CMD…]     CMD: the workload, instead of that of the sweep");
    comment("  SKIP=N sh SCRIPT     leave N matching calls alone, and fail the next");
    comment("");
    comment("Exit status: 0 reproduced, 1 not reproduced, 2 something went wrong, 4 the kernel lacks something.");
    comment("");
    comment(&format!(
        "Found on Linux {} {}, finding {} of {}.",
        config.kernel.release, config.kernel.version, finding.id, report.journal
    ));
    for (i, point) in points.iter().enumerate() {
        let then = if i > 0 { "then in the same attempt" } else { "what fails" };
        comment(&format!("{then}: {} site {}", point.site.hook(), point.signature));
        for frame in crate::events::frames::callers(&point.site.stack).iter().take(FRAMES) {
            comment(&format!("  {frame}"));
        }
        if point.aim.shared > 0 {
            let sites = if point.aim.shared == 1 { "1 site".to_owned() } else { format!("{} sites", point.aim.shared) };
            comment(&format!(
                "The kernel can't tell it from {sites} of the sweep; try SKIP=1, 2, … if another one fails."
            ));
        }
    }
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(text, "{name}={}", quote(value));
    };
    set("id", &finding.id);
    set("title", &finding.title);
    set("shows", shows);
    set("where", place);
    set("build", config.kernel.build_id.as_deref().unwrap_or_default());
    set("points", &names.join(" "));
    set("function", function);
    set("value", value);
    set("tasks", tasks);
    set("times", &times.to_string());
    set("setup", workload.setup.as_deref().unwrap_or_default());
    set("cleanup", workload.cleanup.as_deref().unwrap_or_default());
    let command: Vec<String> = workload.command.iter().map(|word| quote(word)).collect();
    let _ = writeln!(text, "[ $# -gt 0 ] || set -- {}", command.join(" "));
    text.push_str("arm_all() {\n");
    for Point { name, aim, size, skip, .. } in &points {
        let places = [&aim.exact, &aim.loose, &aim.exact_reject, &aim.loose_reject];
        let places: Vec<String> = places.iter().map(|places| quote(&places.join("\n"))).collect();
        let _ = writeln!(text, "\tarm {name} {size} \"${{SKIP:-{skip}}}\" {}", places.join(" "));
    }
    text.push_str("}\n");
    text.push_str(BODY);
    Ok(text)
}

/// The points that make a finding's failures, the first failure first.
fn points<'a>(
    report: &'a Report,
    finding: &Finding,
    failure: &FindingFailure,
) -> Result<Vec<Point<'a>>, NotExportable> {
    let mut points: Vec<Point<'a>> = Vec::new();
    for signature in failure.after.into_iter().chain([failure.site]) {
        let id = || finding.id.clone();
        let no_site = || NotExportable::NoSite { id: id(), site: signature };
        let site = report.site(signature).ok_or_else(no_site)?;
        let native = match site.hook.ok_or_else(no_site)? {
            Hook::Slab => "failslab",
            Hook::Page => "fail_page_alloc",
            hook => return Err(NotExportable::NoPoint { id: id(), hook: hook.name().to_owned() }),
        };
        // Each point has one range. A second failure of the same kind is made at the function that asks the first point.
        let name = if points.iter().any(|point| point.name == native) { "fail_function" } else { native };
        let aim =
            Aim::at(report, signature, site).ok_or_else(|| NotExportable::NoFrame { id: id(), site: signature })?;
        let call = failure.call.as_ref().filter(|_| signature == failure.site);
        let size = match (name, call) {
            ("failslab", Some(call)) => call.size.max(1),
            ("fail_page_alloc", Some(call)) => 1 << call.order.min(20),
            _ => 1,
        };
        let skip = if signature == failure.site { failure.hit.saturating_sub(1) } else { 0 };
        points.push(Point { name, site, signature, aim, size, skip });
    }
    Ok(points)
}

/// How a finding shows, and the function that is named then.
fn shows(finding: &Finding) -> (&'static str, &str) {
    let place = finding.title.rsplit_once(" in ").map_or("", |(_, place)| place);
    match finding.verdict {
        Verdict::Hang => ("hang", place),
        Verdict::Leak => ("leak", place),
        Verdict::Warning | Verdict::Oops => ("log", place),
        _ => ("again", ""),
    }
}

/// A word of a shell. A NUL can't be in one.
fn quote(word: &str) -> String {
    let word = word.replace('\0', "");
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
