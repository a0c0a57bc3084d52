//! The findings, the worst first.

use maud::{Markup, html as markup};

use super::{place, text};
use crate::{
    events::frames,
    journal::FindingFailure,
    report::{
        model::{Found, Report},
        phrase::{self, plural},
    },
    symbols::Lines,
};

/// From so many findings on there is a list of them first.
const INDEX: usize = 4;
/// Suspects that are listed.
const SUSPECTS: usize = 20;

pub(super) fn section(report: &Report) -> Markup {
    markup! {
        @if !report.not_found.is_empty() {
            section {
                h2 { "Known and not found any more" }
                ul { @for gone in &report.not_found { li { (text(&phrase::not_found(gone))) } } }
            }
        }
        @if !report.findings.is_empty() {
            section {
                h2 { "Findings" }
                @if report.findings.len() >= INDEX { (index(report)) }
                @for found in &report.findings { (finding(report, found)) }
            }
        }
    }
}

fn index(report: &Report) -> Markup {
    markup! {
        ul.index {
            @for Found { finding, .. } in &report.findings {
                li {
                    span class=(format!("verdict v-{}", finding.verdict)) { (finding.verdict) } " "
                    a href=(format!("#f-{}", finding.id)) { (text(&finding.title)) }
                }
            }
        }
    }
}

fn finding(report: &Report, found: &Found) -> Markup {
    let finding = &found.finding;
    let splat = finding.splat.trim_end();
    markup! {
        article class=(format!("finding e-{}", finding.verdict)) id=(format!("f-{}", finding.id)) {
            h3 { span class=(format!("verdict v-{}", finding.verdict)) { (finding.verdict) } " " (text(&finding.title)) }
            p.meta {
                (phrase::tries(finding.reproduced, finding.tries))
                @if finding.failures.len() > 1 { " · " (plural(finding.failures.len(), "site")) }
                " · " code { (finding.id) }
                @if let Some(file) = &found.known { " · known (" (text(file)) ")" }
            }
            pre.command { (text(&found.replay)) }
            @if !finding.followed_by.is_empty() {
                p { "Followed by: " (text(&finding.followed_by.join("; "))) }
            }
            @for (i, failure) in finding.failures.iter().enumerate() {
                (failed(report, failure, finding.failures.len() > 1, i == 0))
            }
            @if finding.failures.is_empty() { (suspects(report, found)) }
            @if !splat.is_empty() {
                details {
                    summary { "What the kernel said" span.hint { (plural(splat.lines().count(), "line")) } }
                    pre { (text(splat)) }
                }
            }
        }
    }
}

fn failed(report: &Report, failure: &FindingFailure, several: bool, open: bool) -> Markup {
    let site = report.site(failure.site);
    let manner = phrase::manner(failure);
    markup! {
        div.failure {
            @if let Some(first) = failure.after { p { b { "first a failure of site " } (place(report, first)) } }
            p {
                b { "site " code { (failure.site) } } " "
                (phrase::allocation(site, failure.call.as_ref()))
                @if !manner.is_empty() { br; (manner) }
                @if let Some(outcome) = &failure.outcome { br; (text(&outcome.to_string())) }
                @if several { br; (phrase::tries(failure.reproduced, failure.tries)) }
            }
            @if let Some(site) = site {
                details open[open] {
                    summary { "Stack" span.hint { (text(site.function())) } }
                    (stack(&report.lines, &site.stack))
                }
            }
        }
    }
}

/// A stack; the allocator's own frames are dimmed.
pub(in crate::report) fn stack(lines: &Lines, stack: &[String]) -> Markup {
    let own = stack.len() - frames::callers(stack).len();
    markup! {
        pre {
            @for (i, frame) in stack.iter().enumerate() {
                @let (inlined, frame) = phrase::frame(lines, frame);
                @for line in inlined { span.dim { (line) } "\n" }
                @if i < own { span.dim { (frame) } } @else { (frame) }
                "\n"
            }
        }
    }
}

fn suspects(report: &Report, found: &Found) -> Markup {
    let suspects = &found.finding.suspects;
    markup! {
        @if suspects.is_empty() {
            p { "No failure could be blamed for it." }
        } @else {
            p { "Not narrowed down yet. One of " (plural(suspects.len(), "site")) ":" }
            ul {
                @for site in suspects.iter().take(SUSPECTS) { li { (place(report, *site)) } }
                @if suspects.len() > SUSPECTS { li { "and " (suspects.len() - SUSPECTS) " more" } }
            }
        }
    }
}
