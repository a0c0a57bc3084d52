//! One HTML file: nothing is fetched, nothing is executed, all text is escaped by the templates.

mod coverage;
mod findings;

use std::io::{self, Write};

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

pub(super) use findings::stack;

use super::{
    model::{Config, CoverageClass, OddFailure, Report},
    phrase::{self, number, plural, printable},
};
use crate::{events::frames, journal::Signature};

/// Longer tables are folded away.
const OPEN: usize = 20;
pub(super) const STYLE: &str = include_str!("style.css");
/// Whatever a splat says, the browser must neither run nor load it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The report as one HTML file, for browsers without JavaScript too.
///
/// # Errors
/// It can't be written.
pub fn html(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(page(report).into_string().as_bytes())?;
    writeln!(out)?;
    out.flush()
}

fn page(report: &Report) -> Markup {
    let title = match &report.config {
        None => "Nothing was swept".to_owned(),
        Some(_) if report.findings.is_empty() => "No findings".to_owned(),
        Some(_) => phrase::findings(report),
    };
    markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title {
                    (title) @if let Some(config) = &report.config { " – Linux " (text(&config.kernel.release)) " – " (phrase::workload(config)) }
                }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(report, &title))
                    @if let Some(others) = phrase::kernel_injected(report) { p.remark { (others) } }
                    @for remark in &report.remarks { p.remark { "Journal: " (text(remark)) } }
                    @if report.config.is_some() {
                        (tiles(report))
                        (findings::section(report))
                        (coverage::section(report))
                        (odds(report, &report.misreported, "Misreported", "Allocation failures that came back to user space as something other than ENOMEM. No crashes, but whoever calls is told the wrong reason."))
                        (odds(report, &report.wedged, "Wedged", "After these failures the same error came back again and again."))
                        (left(report))
                        (coverage::inventory(report))
                        (details(report))
                    }
                }
            }
        }
    }
}

/// Text of others, without control characters.
fn text(text: &str) -> String {
    printable(text).into_owned()
}

fn head(report: &Report, title: &str) -> Markup {
    markup! {
        header {
            p.tool { "injector sweep" }
            h1.bad[report.has_new_findings()] { (title) }
            @if let Some(Config { kernel, .. }) = &report.config {
                p.subject {
                    (phrase::kernel(kernel)) br;
                    @if let Some(config) = &report.config { code { (phrase::workload(config)) } }
                }
                @if !report.complete { p.remark { "The sweep did not finish; " code { "--resume" } " continues it." } }
            } @else {
                p.subject { "The journal " code { (text(&report.journal)) } " has no sweep in it." }
            }
        }
    }
}

fn tiles(report: &Report) -> Markup {
    let counts = &report.counts;
    let times = &report.times;
    let tiles = [
        ("sites seen", Some(counts.seen)),
        ("failed", Some(counts.failed)),
        ("masked", Some(counts.masked)),
        ("unreached", Some(counts.unreached)),
        ("not failed yet", Some(counts.left).filter(|count| *count > 0)),
        ("of other shards", Some(counts.elsewhere).filter(|count| *count > 0)),
    ];
    markup! {
        section.tiles aria-label="Counts" {
            @for (name, count) in tiles {
                @if let Some(count) = count { div { b { (number(count as u64)) } span { (name) } } }
            }
        }
        (coverage::bar(&shares(report), "big"))
        (coverage::legend(&shares(report)))
        @if let Some(inventory) = phrase::inventory(&report.counts, &report.inventory) {
            p.times { (inventory) "." }
        }
        @if let Some(places) = report.static_sites.phrase() { p.times { (places) "." } }
        p.times {
            (phrase::times(times)) "."
            @if let Some(unsteady) = report.unsteady.filter(|unsteady| unsteady.sites > 0) {
                " Not deterministic: " (plural(unsteady.sites, "site")) " came and went in "
                (plural(unsteady.runs as usize, "run")) " without failures."
            }
        }
    }
}

/// All sites by what is shown of them.
fn shares(report: &Report) -> Vec<(CoverageClass, usize)> {
    let of = |kept| report.sites.values().filter(|site| site.kept == kept).count();
    CoverageClass::ALL.into_iter().map(|kept| (kept, of(kept))).collect()
}

/// A site with the innermost of its callers.
fn place(report: &Report, signature: Signature) -> Markup {
    let Some(site) = report.site(signature) else { return markup! { code { (signature) } } };
    markup! {
        code { (signature) } " " (site.hook()) " "
        @for (i, frame) in frames::callers(&site.stack).iter().take(3).enumerate() {
            @if i > 0 { " ← " }
            code { (text(frame)) }
        }
    }
}

fn odds(report: &Report, odds: &[OddFailure], title: &str, what: &str) -> Markup {
    markup! {
        @if !odds.is_empty() {
            section {
                h2 { (title) " " span.count { (number(odds.len() as u64)) } }
                p { (what) }
                details.scroll open[odds.len() <= OPEN] {
                    summary { (plural(odds.len(), "failure")) }
                    table {
                        thead { tr { th { "error" } th { "call" } th { "site" } } }
                        tbody {
                            @for odd in odds {
                                tr {
                                    td { b { (text(&odd.error)) } @if let Some(then) = &odd.then { ", then " (text(then)) " when retried" } }
                                    td.nowrap { @if let Some(call) = &odd.syscall { code { (text(&call.name)) "()" } } @else { "–" } }
                                    td { (place(report, odd.site)) @if let Some(after) = odd.after { " after a failure of " code { (after) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn left(report: &Report) -> Markup {
    markup! {
        @if !report.left.is_empty() {
            section {
                h2 { "Never failed" }
                div.scroll {
                    table.narrow {
                        thead { tr { th.n { "sites" } th { "why" } } }
                        tbody { @for share in &report.left { tr { td.n { (number(share.sites as u64)) } td { (text(&share.why)) } } } }
                    }
                }
            }
        }
    }
}

fn details(report: &Report) -> Markup {
    let Some(Config { kernel, workload }) = &report.config else { return markup! {} };
    markup! {
        section {
            h2 { "What was swept" }
            dl {
                dt { "kernel" } dd { (phrase::kernel(kernel)) }
                @if let Some(id) = &kernel.build_id { dt { "build id" } dd { code { (text(id)) } } }
                @if let Some(config) = &kernel.config { dt { "configuration" } dd { code { (text(config)) } } }
                dt { "workload" } dd { code { (workload.command.iter().map(|word| text(word)).collect::<Vec<_>>().join(" ")) } }
                @if let Some(setup) = &workload.setup { dt { "setup" } dd { code { (text(setup)) } } }
                @if let Some(cleanup) = &workload.cleanup { dt { "cleanup" } dd { code { (text(cleanup)) } } }
                dt { "digest of its files" } dd { code { (text(&workload.digest)) } }
                dt { "journal" } dd { code { (text(&report.journal)) } }
            }
            div.scroll {
                table {
                    thead { tr { th { "sweep" } th { "begun" } th.n { "resumed" } th { "shard" } th.n { "depth" } th.n { "hit" } th { "kernel threads" } th { "only" } th { "injector" } } }
                    tbody {
                        @for sweep in &report.sweeps {
                            tr {
                                td { code { (text(&sweep.sweep)) } }
                                td { (text(&sweep.time)) }
                                td.n { (sweep.resumed) }
                                td { @if let Some(shard) = sweep.shard { (shard.index) "/" (shard.count) } @else { "–" } }
                                td.n { (sweep.options.depth) }
                                td.n { (sweep.options.hit) @if let Some(most) = sweep.options.persistent { " and on, " (most) } }
                                td { @if sweep.options.kthreads { "failed too" } @else { "left alone" } }
                                td { @if sweep.options.only.is_empty() { "–" } @else { (text(&sweep.options.only.join(", "))) } }
                                td { (text(&sweep.version)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
