//! Stacks as lines that flame graph tools read: frames from the outermost to the innermost, and a count.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::model::{Run, Site};
use crate::{events::frames, report::phrase::one_line, symbols::Lines};

/// One line for each different stack: `do_syscall_64;rpc_execute [sunrpc];rpc_malloc [sunrpc] 41`. Functions without
/// offsets; inlined ones, where source lines are known, end in `_[i]`.
///
/// # Errors
/// It can't be written.
pub fn folded(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    for (stack, count) in stacks(run) {
        writeln!(out, "{stack} {count}")?;
    }
    out.flush()
}

/// Failures by stack, in the order of the text.
pub(super) fn stacks(run: &Run) -> BTreeMap<String, u64> {
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for site in &run.sites {
        let count = stacks.entry(stack(site, &run.lines)).or_default();
        *count = count.saturating_add(site.count);
    }
    stacks
}

fn stack(site: &Site, lines: &Lines) -> String {
    let mut names = Vec::with_capacity(site.stack.len());
    for frame in site.stack.iter().rev() {
        names.push(name(frame));
        // The last one is the frame's own function.
        let inlined = lines.get(frame).and_then(|lines| lines.split_last()).map_or(&[][..], |(_, inlined)| inlined);
        names.extend(inlined.iter().rev().map(|line| format!("{}_[i]", plain(&line.function))));
    }
    if names.is_empty() { format!("(stack of {} not known)", site.site) } else { names.join(";") }
}

/// `rpc_malloc [sunrpc]` of `rpc_malloc+0x89 [sunrpc]`.
fn name(frame: &str) -> String {
    let function = plain(frames::function(frame));
    match frame.split_once(" [") {
        Some((_, module)) => format!("{function} [{}", plain(module)),
        None => function,
    }
}

/// Without what has a meaning in such lines, or no place in XML.
fn plain(name: &str) -> String {
    let plain = one_line(name).replace([';', ' ', '\u{fffe}', '\u{ffff}'], "_");
    if plain.is_empty() { "_".to_owned() } else { plain }
}
