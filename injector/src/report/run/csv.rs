//! Sites as a table for other programs: RFC 4180, one line a site, most frequent first.

use std::io::{self, Write};

use ::csv::Writer;

use super::{
    model::{Run, Site},
    tally::Tally,
};
use crate::events::frames;

const COLUMNS: [&str; 19] = [
    "site",
    "hook",
    "count",
    "first_s",
    "last_s",
    "function",
    "order_min",
    "order_max",
    "size_min",
    "size_max",
    "gfp",
    "cache",
    "enomem",
    "error",
    "masked",
    "signal",
    "outside",
    "open",
    "stack",
];

/// The sites. Several values in a field, and the frames of the stack, innermost first, are separated by `;`. A field that a
/// spreadsheet would take for a formula begins with an apostrophe.
///
/// # Errors
/// It can't be written.
pub fn csv(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    writer.write_record(COLUMNS)?;
    for site in &run.sites {
        writer.write_record(row(site).map(harmless))?;
    }
    writer.flush()
}

fn row(site: &Site) -> [String; COLUMNS.len()] {
    let optional = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let seconds = |seconds: Option<f64>| seconds.map(|seconds| format!("{seconds:.6}")).unwrap_or_default();
    let outcome = |i: usize| optional(site.outcomes.map(|outcomes| outcomes.named()[i].0));
    let function = frames::callers(&site.stack).first().map_or("", |frame| frames::function(frame));
    [
        site.site.to_string(),
        site.hook.clone(),
        site.count.to_string(),
        seconds(site.first),
        seconds(site.last),
        function.to_owned(),
        optional(site.orders.map(|span| span.min)),
        optional(site.orders.map(|span| span.max)),
        optional(site.sizes.map(|span| span.min)),
        optional(site.sizes.map(|span| span.max)),
        values(&site.gfp),
        values(&site.caches),
        outcome(0),
        outcome(1),
        outcome(2),
        outcome(3),
        outcome(4),
        outcome(5),
        site.stack.join(";"),
    ]
}

/// A spreadsheet takes a cell that begins like this for a formula: an apostrophe makes it a text.
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

fn values(tally: &Tally) -> String {
    let (values, others) = tally.values();
    let values = values.into_iter().map(|(value, _)| value);
    values.chain((others > 0).then_some("...")).collect::<Vec<_>>().join(";")
}
