//! A frame as text, and what it is in an ELF file.

use std::collections::BTreeSet;

use super::{Line, Lines, dwarf::Dwarf, elf::Function, elf::Image};

/// `rpc_malloc+0x89 [sunrpc]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// All of it.
    pub(super) text: &'a str,
    /// `rpc_malloc`
    pub(super) function: &'a str,
    /// Where in it the call returns to, bytes.
    pub(super) offset: u64,
    /// `sunrpc`
    pub(super) module: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// Reads `function+0x1f` or `function+0x1f [module]`. A bare address is no such thing.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (place, module) = match text.split_once(" [") {
            Some((place, module)) => (place, Some(module.strip_suffix(']')?)),
            None => (text, None),
        };
        let (function, offset) = place.rsplit_once("+0x")?;
        let offset = u64::from_str_radix(offset, 16).ok()?;
        Some(Self { text, function, offset, module })
    }
}

/// What came of frames.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// Those with an answer.
    pub(super) lines: Lines,
    /// Those that can't be of this file: it has no such function, or no call before that place.
    pub(super) misfits: Vec<String>,
}

/// Looks up frames of one file.
pub(super) fn resolve(image: &Image<'_>, dwarf: &Dwarf<'_>, frames: &[Frame<'_>]) -> Resolved {
    let names: BTreeSet<&str> = frames.iter().map(|frame| frame.function).collect();
    let functions = image.functions(&names);
    let mut resolved = Resolved::default();
    for frame in frames {
        let candidates = functions.get(frame.function).map_or(&[][..], Vec::as_slice);
        let candidates: Vec<Candidate> =
            candidates.iter().filter_map(|function| candidate(image, function, frame.offset)).collect();
        if !candidates.iter().any(|candidate| candidate.after_call) {
            resolved.misfits.push(frame.text.to_owned());
        }
        if let Some(lines) = agreed(dwarf, frame.function, &candidates) {
            resolved.lines.insert(frame.text.to_owned(), lines);
        }
    }
    resolved
}

/// What a frame may be.
struct Candidate {
    /// Within the instruction that the frame is in.
    address: u64,
    /// A call stands before it, or nobody knows.
    after_call: bool,
}

fn candidate(image: &Image<'_>, function: &Function, offset: u64) -> Option<Candidate> {
    let address = function.range.start.checked_add(offset)?;
    // A call that never comes back may be the last instruction: it returns to the function's end.
    if offset == 0 || address > function.range.end {
        return None;
    }
    let after_call = image.is_after_call(function, address).unwrap_or(true);
    // What is not after a call was interrupted there (a page fault): it is that instruction, not the one before.
    Some(Candidate { address: if after_call { address - 1 } else { address }, after_call })
}

/// What a frame is in the sources. There may be several functions of that name; those with no call there are out of the
/// question, and the rest must be the same in the sources (a function of a header).
fn agreed(dwarf: &Dwarf<'_>, function: &str, candidates: &[Candidate]) -> Option<Vec<Line>> {
    let several = candidates.len() > 1;
    let mut answers =
        candidates.iter().filter(|one| !several || one.after_call).map(|one| dwarf.lines(one.address, function));
    let first = answers.next()??;
    answers.all(|other| other.as_ref() == Some(&first)).then_some(first)
}
