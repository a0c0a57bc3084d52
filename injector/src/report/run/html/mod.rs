//! One HTML file: nothing is fetched, all text is escaped by the templates, and the one script that may run is known by its
//! hash. Without scripts it is a page with a plain table.

mod sites;

use std::io::{self, Write};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html as markup};
use sha2::{Digest as _, Sha256};

use super::{
    flame::{self, Frames},
    line::{Counters, Start},
    model::{Run, Syscall},
    text::others,
    words,
};
use crate::{
    events::Outcomes,
    report::{
        html::STYLE as COMMON_STYLE,
        phrase::{number, plural, printable},
    },
};

const STYLE: &str = include_str!("run.css");
const SCRIPT: &str = include_str!("run.js");
/// As wide as the page's text.
const FLAME_WIDTH: usize = 1040;
/// Columns of the picture of failures by time, at most.
const COLUMNS: usize = 130;

/// The report as one HTML file.
///
/// # Errors
/// It can't be written.
pub fn html(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let frames = flame::frames(run, FLAME_WIDTH)?;
    out.write_all(page(run, frames.as_ref()).into_string().as_bytes())?;
    writeln!(out)?;
    out.flush()
}

/// Whatever a task is called, the browser must neither run nor load it.
fn policy() -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(SCRIPT));
    format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'")
}

fn page(run: &Run, frames: Option<&Frames>) -> Markup {
    let title = words::title(run);
    markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(policy());
                title { (title) @if let Some(start) = &run.start { " – Linux " (text(&start.kernel)) } }
                style { (PreEscaped(COMMON_STYLE)) (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        p.tool { "injector report" }
                        h1.neutral { (title) }
                        p.subject {
                            @if let Some(start) = &run.start { "Linux " (text(&start.kernel)) ", " (text(&start.time)) br; }
                            (capital(&words::course(run))) "."
                        }
                        @if run.is_dry() { p.remark { "A dry run: nothing failed." } }
                        @for remark in &run.remarks { p.remark { "File: " (text(remark)) } }
                    }
                    (tiles(run))
                    (timeline(run))
                    (rules(run))
                    (sites::section(run))
                    (flame_graph(frames))
                    (syscalls(&run.syscalls))
                    (details(run))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

/// Text of others, without control characters.
fn text(text: &str) -> String {
    printable(text).into_owned()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn tiles(run: &Run) -> Markup {
    let end = run.end.as_ref();
    let tiles = [
        ("failures", Some(number(run.failures))),
        ("sites", Some(number(run.sites.len() as u64))),
        ("failures a second", run.rate(run.failures).map(|rate| words::rate(rate).trim_end_matches("/s").to_owned())),
        ("matches", end.map(|end| number(end.matches))),
        ("calls", end.map(|end| number(end.calls))),
        ("events lost", end.filter(|end| end.lost > 0).map(|end| number(end.lost))),
    ];
    markup! {
        section.tiles aria-label="Counts" {
            @for (name, count) in tiles {
                @if let Some(count) = count { div { b { (count) } span { (name) } } }
            }
        }
        @if let Some(outcomes) = &run.outcomes {
            (bar(outcomes, "big"))
            (legend(outcomes))
        }
    }
}

/// The classes of outcomes, in the order of [`Outcomes::named`].
const CLASSES: [&str; 6] = ["o-enomem", "o-error", "o-masked", "o-signal", "o-outside", "o-open"];

fn with_classes(outcomes: &Outcomes) -> impl Iterator<Item = (u64, &'static str, &'static str)> {
    let named = outcomes.named().into_iter().zip(CLASSES).map(|((count, word), class)| (count, word, class));
    named.filter(|(count, ..)| *count > 0)
}

/// Outcomes as parts of a bar.
fn bar(outcomes: &Outcomes, size: &str) -> Markup {
    let sum = outcomes.sum() as f64;
    let mut x = 0.0;
    let parts = with_classes(outcomes).map(|(count, word, class)| {
        let width = count as f64 / sum * 100.0;
        let start = x;
        x += width;
        (start, width, class, format!("{} {word}", number(count)))
    });
    let parts: Vec<_> = parts.collect();
    let label = words::several(&outcomes.named());
    markup! {
        svg class=(format!("bar {size}")) viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (x, width, class, title) in parts {
                rect class=(class) x=(format!("{x:.3}")) y="0" width=(format!("{width:.3}")) height="10" { title { (title) } }
            }
        }
    }
}

fn legend(outcomes: &Outcomes) -> Markup {
    markup! {
        ul.legend {
            @for (count, word, class) in with_classes(outcomes) {
                li { span class=(format!("swatch {class}")) {} " " (number(count)) " " (word) }
            }
        }
    }
}

fn timeline(run: &Run) -> Markup {
    let timeline = run.timeline.at_most(COLUMNS);
    let most = timeline.counts.iter().copied().max().unwrap_or(0);
    if timeline.counts.len() < 3 {
        return markup! {};
    }
    let each = plural(usize::try_from(timeline.seconds).unwrap_or(usize::MAX), "second");
    markup! {
        section {
            h2 { "Failures by time" }
            svg.timeline viewBox=(format!("0 0 {} 100", timeline.counts.len())) preserveAspectRatio="none" role="img"
                aria-label=(format!("Failures by time, at most {} in {each}", number(most))) {
                @for (i, count) in timeline.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    @let height = (*count as f64 / most as f64 * 100.0).max(1.0);
                    @let start = i as u64 * timeline.seconds;
                    rect x=(i) y=(format!("{:.2}", 100.0 - height)) width="0.92" height=(format!("{height:.2}")) {
                        title { (number(*count)) " failures from second " (number(start)) " on" }
                    }
                }
            }
            p.axis {
                span { "0 s" }
                span { "a column is " (each) ", the highest " (words::count(most, "failure")) }
                span { (number(timeline.counts.len() as u64 * timeline.seconds)) " s" }
            }
        }
    }
}

fn rules(run: &Run) -> Markup {
    let counters = |counters: &Counters| ["calls", "matches", "failures"].map(|name| counters.get(name));
    markup! {
        @if !run.rules.is_empty() {
            section {
                h2 { "Rules" }
                div.scroll {
                    table.narrow {
                        thead { tr { th { "rule" } th { "hook" } th.n { "calls" } th.n { "matches" } th.n { "failures" } } }
                        tbody {
                            @for rule in &run.rules {
                                @for (i, (hook, all)) in rule.hooks.0.iter().enumerate() {
                                    tr {
                                        th { @if i == 0 { (text(&rule.name)) } }
                                        td { (text(hook)) }
                                        @for count in counters(all) { td.n.zero[count == 0] { (number(count)) } }
                                    }
                                }
                                @if rule.hooks.0.is_empty() {
                                    tr { th { (text(&rule.name)) } td {} td.n { "?" } td.n { "?" } td.n { (number(rule.failures)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn flame_graph(frames: Option<&Frames>) -> Markup {
    markup! {
        @if let Some(Frames { svg, view: [left, top, width, height] }) = frames {
            section #flame {
                h2 { "Flame graph" }
                p.dim { "Callers below, the allocator on top; as wide as there were failures." span.script hidden { " Click on a frame to see it alone, Esc for all." } }
                div.scroll {
                    svg.flame width=(width) height=(height) viewBox=(format!("{left} {top} {width} {height}")) role="img" aria-label="Flame graph of the failures' stacks" {
                        (PreEscaped(svg))
                    }
                }
                p #frame .dim { " " }
            }
        }
    }
}

fn syscalls(syscalls: &[Syscall]) -> Markup {
    markup! {
        @if !syscalls.is_empty() {
            section {
                h2 { "System calls in which failures were made" }
                div.scroll {
                    table {
                        thead { tr { th { "system call" } th.n { "failures" } th.n { "ENOMEM" } th.n { "another error" } th.n { "masked" } th.n { "signal" } th.picture {} } }
                        tbody {
                            @for Syscall { syscall, outcomes } in syscalls {
                                tr {
                                    td { @if let Some(name) = syscall { code { (text(name)) "()" } } @else { "outside of system calls" } }
                                    td.n { (number(outcomes.sum())) }
                                    @for count in [outcomes.enomem, outcomes.error, outcomes.masked, outcomes.signal] {
                                        td.n.zero[count == 0] { (number(count)) }
                                    }
                                    td.picture { (bar(outcomes, "")) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn details(run: &Run) -> Markup {
    markup! {
        section {
            h2 { "What was run" }
            dl {
                dt { "file" } dd { code { (text(&run.file)) } }
                @if let Some(Start { version, build_id, hooks, .. }) = &run.start {
                    dt { "injector" } dd { (text(version)) }
                    @if let Some(id) = build_id { dt { "kernel's build id" } dd { code { (text(id)) } } }
                    dt { "hooks" } dd { (text(&hooks.join(", "))) }
                }
                @if let Some(end) = &run.end {
                    dt { "events" } dd { (number(end.delivered)) " delivered, " (number(end.lost)) " lost; sites and totals are exact all the same" }
                    dt { "suppressed by guards" } dd { (number(end.suppressed)) }
                    @for (name, sum, help) in others(end) {
                        dt { (name.replace('_', " ")) } dd { (number(sum)) " " span.dim { (help) } }
                    }
                }
            }
            @if let Some(start) = &run.start {
                details {
                    summary { "The plan" }
                    pre { (text(&serde_json::to_string_pretty(&start.plan).unwrap_or_default())) }
                }
            }
        }
    }
}
