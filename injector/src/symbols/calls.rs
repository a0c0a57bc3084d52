//! From a line of the kernel's sources to the calls that are made there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use addr2line::gimli;

use super::{Kernel, LineSources, LinesError, dwarf::Dwarf, elf::Image, open, places, root_of, verify};
use crate::plan::{SourceLine, StackPattern};

/// Lines that an error names.
const NEAREST: usize = 5;

/// A line of the sources that can't be found in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum NoCalls {
    /// The debug information can't be used.
    #[error("--site {line}: {error}")]
    Lines {
        /// What was asked for.
        line: SourceLine,
        /// Why not.
        error: LinesError,
    },
    /// There is none.
    #[error(
        "--site {line} needs the kernel's debug information: name its vmlinux, as it was built, with --vmlinux, or write the site's signature"
    )]
    NoVmlinux {
        /// What was asked for.
        line: SourceLine,
    },
    /// The file is not among the sources.
    #[error(
        "--site {line}: {} has no code of {}; write the file relative to the sources (fs/jbd2/journal.c). Code of loadable modules is not looked at: name such a site by its signature", path.display(), line.file
    )]
    NoFile {
        /// What was asked for.
        line: SourceLine,
        /// The vmlinux.
        path: PathBuf,
    },
    /// Nothing is called on that line.
    #[error("--site {line}: nothing is called on this line; the nearest lines with calls are {}", nearest.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NoCall {
        /// What was asked for.
        line: SourceLine,
        /// Other lines of the file, the nearest first.
        nearest: Vec<u32>,
    },
}

crate::exit::has_exit_code!(NoCalls => USAGE);

/// The calls that are made on a line of the sources, in functions that are inlined there too, as pieces of functions that
/// `--caller` takes.
///
/// # Errors
/// There is no debug information, or nothing is called there.
pub fn calls(line: &SourceLine, kernel: Kernel<'_>, search: &LineSources) -> Result<Vec<StackPattern>, NoCalls> {
    let lines = |error| NoCalls::Lines { line: line.clone(), error };
    if let Some(path) = &search.vmlinux {
        search.check(Some(kernel)).map_err(lines)?;
        return in_file(path, line, kernel);
    }
    if kernel.build_id.is_some() {
        for path in places::vmlinux(search, kernel.release) {
            match in_file(&path, line, kernel) {
                Err(NoCalls::Lines { .. }) => {}
                other => return other,
            }
        }
    }
    Err(NoCalls::NoVmlinux { line: line.clone() })
}

fn in_file(path: &Path, line: &SourceLine, kernel: Kernel<'_>) -> Result<Vec<StackPattern>, NoCalls> {
    let lines = |error| NoCalls::Lines { line: line.clone(), error };
    let as_elf = |error| lines(LinesError::Elf { path: path.to_owned(), error });
    let as_dwarf = |error: gimli::Error| lines(LinesError::Dwarf { path: path.to_owned(), error });
    let file = open(path).map_err(lines)?;
    let image = Image::parse(&file).map_err(as_elf)?;
    verify(path, &image, kernel.build_id).map_err(lines)?;
    let sections = image.debug_sections().map_err(as_elf)?;
    let mut dwarf = Dwarf::new(&sections, "").map_err(as_dwarf)?;
    dwarf.root = root_of(&image, &dwarf);

    // Functions with any code of the file: what is inlined on the line may have no code of its own there.
    let addresses = dwarf.code_of(&line.file).map_err(as_dwarf)?;
    if addresses.is_empty() {
        return Err(NoCalls::NoFile { line: line.clone(), path: path.to_owned() });
    }
    let mut pieces = Vec::new();
    let mut others = BTreeSet::new();
    for (name, function) in image.functions_at(&addresses) {
        for address in function.range.start + 1..=function.range.end {
            if image.is_after_call(&function, address) != Some(true) {
                continue;
            }
            let Some(frames) = dwarf.lines(address - 1, &name) else { continue };
            let of_file = frames.iter().filter(|frame| frame.file == line.file);
            let mut on_line = false;
            for frame in of_file {
                on_line |= frame.line == line.line;
                others.insert(frame.line);
            }
            let offset = address - function.range.start;
            if on_line && let Ok(piece) = format!("{name}+{:#x}-{offset:#x}", offset - 1).parse() {
                pieces.push(piece);
            }
        }
    }
    if pieces.is_empty() {
        let mut nearest: Vec<u32> = others.into_iter().collect();
        nearest.sort_by_key(|other| other.abs_diff(line.line));
        nearest.truncate(NEAREST);
        return Err(NoCalls::NoCall { line: line.clone(), nearest });
    }
    Ok(pieces)
}
