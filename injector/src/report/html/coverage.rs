//! Coverage as a picture, and the inventory behind it.

use maud::{Markup, html as markup};

use super::{findings::stack, text};
use crate::report::{
    model::{CoverageClass, Module, Report},
    phrase::{self, number, plural},
};

/// A bar is so many units wide, whatever it measures on the screen.
const WIDTH: f64 = 1000.0;

/// The least that a part is wide: one site in a thousand may be the one that matters.
const LEAST: f64 = 12.0;

/// A stacked bar over all of `shares`.
pub(super) fn bar(shares: &[(CoverageClass, usize)], class: &str) -> Markup {
    let all: usize = shares.iter().map(|(_, count)| count).sum();
    let said: Vec<String> = shares
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kept, count)| format!("{} {}", number(*count as u64), kept.name()))
        .collect();
    let room = WIDTH - LEAST * said.len() as f64;
    let mut x = 0.0;
    let parts = shares.iter().filter(|(_, count)| *count > 0).map(|(kept, count)| {
        let width = LEAST + room * *count as f64 / all as f64;
        let part = (x, width, *kept, *count);
        x += width;
        part
    });
    let parts: Vec<_> = parts.collect();
    markup! {
        svg class=(format!("bar {class}")) viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label=(said.join(", ")) {
            @for (x, width, kept, count) in parts {
                rect class=(format!("k-{}", kept.name())) x=(format!("{x:.1}")) y="0" width=(format!("{width:.1}")) height="10" {
                    title { (kept.name()) ": " (number(count as u64)) }
                }
            }
        }
    }
}

/// What the colours mean.
pub(super) fn legend(shares: &[(CoverageClass, usize)]) -> Markup {
    let meaning = |kept| match kept {
        CoverageClass::Finding => "part of a finding",
        CoverageClass::Error => "another error than ENOMEM, or the program failed",
        CoverageClass::Clean => "ENOMEM came back",
        CoverageClass::Masked => "user space did not notice",
        CoverageClass::Unreached => "could not be made to fail",
        CoverageClass::Left => "not failed yet, or not here",
    };
    markup! {
        ul.legend {
            @for (kept, count) in shares {
                @if *count > 0 {
                    li title=(meaning(*kept)) {
                        span class=(format!("swatch k-{}", kept.name())) {} " "
                        b { (number(*count as u64)) } " " (kept.name())
                        span.dim { " – " (meaning(*kept)) }
                    }
                }
            }
        }
    }
}

fn shares(module: &Module) -> Vec<(CoverageClass, usize)> {
    CoverageClass::ALL.into_iter().map(|kept| (kept, module.shares.get(&kept).copied().unwrap_or(0))).collect()
}

pub(super) fn section(report: &Report) -> Markup {
    markup! {
        @if !report.modules.is_empty() {
            section {
                h2 { "Coverage by module" }
                div.scroll {
                    table.coverage {
                        thead {
                            tr {
                                th { "module" } th { "sites" } th.n { "seen" } th.n { "failed" } th.n { "masked" }
                                th.n { "unreached" } th.n { "left" } th.n { "findings" }
                            }
                        }
                        tbody { @for module in &report.modules { (row(module)) } }
                    }
                }
            }
        }
    }
}

fn row(module: &Module) -> Markup {
    let counts = &module.counts;
    let cells = [counts.seen, counts.failed, counts.masked, counts.unreached, counts.left + counts.elsewhere];
    markup! {
        tr {
            th scope="row" { (text(&module.module)) }
            td.picture { (bar(&shares(module), "")) }
            @for count in cells { td.n.zero[count == 0] { (number(count as u64)) } }
            td.n.zero[module.findings == 0].bad[module.findings > 0] { (number(module.findings as u64)) }
        }
    }
}

/// Every site, folded away.
pub(super) fn inventory(report: &Report) -> Markup {
    let mut modules: Vec<&Module> = report.modules.iter().collect();
    modules.sort_by(|a, b| a.module.cmp(&b.module));
    markup! {
        @if !modules.is_empty() {
            section {
                h2 { "All sites" }
                @for module in modules {
                    details.module {
                        summary { (text(&module.module)) span.hint { (plural(module.counts.seen, "site")) } }
                        @for (signature, site) in report.sites_of(&module.module) {
                            details.site {
                                summary {
                                    span class=(format!("swatch k-{}", site.kept.name())) {} " "
                                    code { (text(site.function())) } " " (site.hook())
                                    span.hint {
                                        @match phrase::skipped(report, signature, site) {
                                            Some(why) => (why),
                                            None => (site.verdict),
                                        }
                                        ", " (plural(usize::try_from(site.hits).unwrap_or(usize::MAX), "hit")) " a run"
                                    }
                                }
                                p.meta {
                                    code { (signature) }
                                    @if let Some(after) = site.after { " · first seen after a failure of " code { (after) } }
                                    @if site.kthread { " · in a kernel thread" }
                                }
                                (stack(&report.lines, &site.stack))
                            }
                        }
                    }
                }
            }
        }
    }
}
