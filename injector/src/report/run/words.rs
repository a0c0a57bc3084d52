//! Words that several forms of a run's report share.

use std::borrow::Cow;

use serde::{
    Deserialize as _,
    de::value::{Error, StrDeserializer},
};

use super::{
    model::{End, Run, Site},
    tally::{Span, Tally},
};
use crate::{
    events::{self, Outcomes},
    report::phrase::{number, one_line, plural},
};

/// `7 failures at 2 sites`.
pub(super) fn title(run: &Run) -> String {
    match run.failures {
        0 => "No failures".to_owned(),
        failures => {
            let dry = if run.is_dry() { " would have been made" } else { "" };
            format!("{}{dry} at {}", count(failures, "failure"), plural(run.sites.len(), "site"))
        }
    }
}

/// `1 failure`, `1,204 failures`.
pub(super) fn count(count: u64, word: &str) -> String {
    plural(usize::try_from(count).unwrap_or(usize::MAX), word)
}

/// Why a run ended.
pub(super) fn ending(end: &End) -> Cow<'_, str> {
    let known = events::End::deserialize(StrDeserializer::<Error>::new(&end.end));
    known.map_or_else(|_| one_line(&end.end), |end| Cow::Borrowed(end.describe()))
}

/// `the command ended after 34.0 s, with exit status 1`.
pub(super) fn course(run: &Run) -> String {
    let seconds = run.seconds;
    match &run.end {
        Some(end) => {
            let status = end.command_status.map(|status| format!(", with exit status {status}")).unwrap_or_default();
            format!("{} after {seconds:.1} s{status}", ending(end))
        }
        None => format!("its end is not known; the last failure was after {seconds:.1} s"),
    }
}

/// `12.3/s`, and smaller ones with more digits.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        rate if rate >= 100.0 => format!("{}/s", number(rate.round() as u64)),
        rate if rate >= 1.0 || rate == 0.0 => format!("{rate:.1}/s"),
        rate => format!("{rate:.3}/s"),
    }
}

/// `failed 41 times: 12 ENOMEM, 29 masked`.
pub(super) fn outcomes(count: u64, outcomes: &Outcomes) -> String {
    let times = if count == 1 { "once".to_owned() } else { format!("{} times", number(count)) };
    format!("failed {times}: {}", several(&outcomes.named()))
}

/// `12 ENOMEM, 29 masked`: those that there are.
pub(super) fn several(counts: &[(u64, &str)]) -> String {
    let there = counts.iter().filter(|(count, _)| *count > 0);
    there.map(|(count, word)| format!("{} {word}", number(*count))).collect::<Vec<_>>().join(", ")
}

/// `mkdir, sh and others`.
pub(super) fn values(tally: &Tally) -> String {
    let (values, others) = tally.values();
    let names: Vec<Cow<'_, str>> = values.into_iter().map(|(value, _)| one_line(value)).collect();
    format!("{}{}", names.join(", "), if others > 0 { " and others" } else { "" })
}

/// `96`, `96 to 4,096`.
pub(super) fn span(span: Span) -> String {
    match span {
        Span { min, max } if min == max => number(min),
        Span { min, max } => format!("{} to {}", number(min), number(max)),
    }
}

/// `GFP_NOFS, order 0, 2,048 bytes, rpc_buffers; by mkdir; rule default`: what the failures of a site have in common.
pub(super) fn allocations(site: &Site) -> String {
    let mut asked = vec![values(&site.gfp)];
    asked.extend(site.orders.map(|orders| format!("order {}", span(orders))));
    asked.extend(site.sizes.map(|sizes| format!("{} bytes", span(sizes))));
    asked.push(values(&site.caches));
    let asked = listed(asked, ", ");
    let of = |word: &str, tally: &Tally| {
        if tally.is_empty() { String::new() } else { format!("{word} {}", values(tally)) }
    };
    let contexts = if values(&site.contexts) == "task" { String::new() } else { of("in", &site.contexts) };
    listed(vec![asked, of("by", &site.tasks), contexts], "; ")
}

fn listed(parts: Vec<String>, separator: &str) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(separator)
}
