//! The table of sites.

use maud::{Markup, html as markup};

use super::{bar, text, words};
use crate::{
    events::frames,
    report::{
        html::stack,
        phrase::number,
        run::model::{Run, Site},
    },
};

/// Callers that a row shows; all frames are below it.
const CALLERS: usize = 3;

pub(super) fn section(run: &Run) -> Markup {
    let most = run.sites.first().map_or(1, |site| site.count.max(1));
    let outcomes = run.outcomes.is_some();
    markup! {
        @if !run.sites.is_empty() {
            section #sites {
                h2 { "Sites " span.count { (number(run.sites.len() as u64)) } }
                p.search.script hidden {
                    input #search type="search" placeholder="Function, module, task, cache, signature …" aria-label="Search sites" autocomplete="off";
                    " " output #found for="search" {}
                }
                div.scroll {
                    table.sites {
                        thead { tr { th.n { "failures" } th.picture aria-label="share" {} th { "hook" } th { "site" } @if outcomes { th { "outcomes" } } } }
                        tbody { @for site in &run.sites { (row(run, site, most)) } }
                    }
                }
            }
        }
    }
}

fn row(run: &Run, site: &Site, most: u64) -> Markup {
    let allocations = words::allocations(site);
    let share = site.count as f64 / most as f64 * 100.0;
    markup! {
        tr {
            td.n { (number(site.count)) }
            td.picture { svg.bar viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" { rect.share x="0" y="0" width=(format!("{:.2}", share.max(1.5))) height="10" {} } }
            td { (text(&site.hook)) }
            td {
                details {
                    summary { (place(site)) }
                    p.dim {
                        "site " code { (site.site) }
                        @if !allocations.is_empty() { br; (allocations) }
                        @if run.rules.len() > 1 && !site.rules.is_empty() { br; "by rule " (words::values(&site.rules)) }
                        @if let (Some(first), Some(last)) = (site.first, site.last) { br; (times(first, last)) }
                    }
                    (stack(&run.lines, &site.stack))
                }
            }
            @if run.outcomes.is_some() {
                td.outcomes {
                    @if let Some(outcomes) = &site.outcomes { (bar(outcomes, "")) span.dim { (words::several(&outcomes.named())) } }
                }
            }
        }
    }
}

fn times(first: f64, last: f64) -> String {
    if first == last { format!("at {first:.3} s") } else { format!("from {first:.3} s to {last:.3} s") }
}

/// The innermost of its callers.
fn place(site: &Site) -> Markup {
    markup! {
        @if site.stack.is_empty() { "the stack is not in the file" }
        @for (i, frame) in frames::callers(&site.stack).iter().take(CALLERS).enumerate() {
            @if i > 0 { " ← " }
            code { (text(frame)) }
        }
    }
}
