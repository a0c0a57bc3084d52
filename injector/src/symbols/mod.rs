//! Source lines for frames: from `function+0x1f [module]` and a kernel's debug information to file, line and what was
//! inlined there.
//!
//! [`lines`] takes any set of frames as text, of a journal or of a run, looks for the debug information of their kernel
//! ([`LineSources`]), and answers for those frames that it is sure of. A wrong line is worse than none: the file's build id must
//! be that of the kernel, and what can mean several functions is left out.

mod calls;
mod dwarf;
mod elf;
mod frame;
mod places;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use object::read;
use serde::Serialize;
use tracing::{debug, warn};

use crate::kernel::KernelFiles;
pub use calls::{NoCalls, calls};
use dwarf::Dwarf;
use elf::{File, Image};
use frame::Frame;

/// A place in the sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The function that it belongs to.
    pub function: String,
    /// The file, relative to the kernel's sources where it lies in them.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The function was inlined into that of the next line.
    pub inlined: bool,
}

/// Of each frame, by its text: the functions inlined there, innermost first, and at last its own.
pub type Lines = BTreeMap<String, Vec<Line>>;

/// Whose debug information is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// `uname -r`.
    pub release: &'a str,
    /// GNU build id, hexadecimal. Without it only a file that was named is taken.
    pub build_id: Option<&'a str>,
}

/// Where debug information is looked for.
#[derive(Clone, Debug, Default)]
pub struct LineSources {
    /// This file and no other: it was named by the user, so it must be right.
    pub vmlinux: Option<PathBuf>,
    /// A kernel image (bzImage): a `vmlinux` beside it comes first.
    pub image: Option<PathBuf>,
    /// Files and directories that the kernel had its modules from: one that is there is not looked for elsewhere.
    pub modules: Vec<PathBuf>,
    /// The machine, whose usual places come last.
    pub files: KernelFiles,
}

/// The file that the user named can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// It can't be read.
    #[error("can't read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// It is no ELF file, or a damaged one.
    #[error("{}: not a vmlinux: {error}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// The error.
        error: read::Error,
    },
    /// It is of another kernel.
    #[error("{} is of another kernel: its build id is {}, that of the kernel under test {kernel}", path.display(), found.as_deref().unwrap_or("not known"))]
    OtherKernel {
        /// The file.
        path: PathBuf,
        /// Its build id.
        found: Option<String>,
        /// The kernel's.
        kernel: String,
    },
    /// It was stripped, or the kernel was built without.
    #[error("{} has no debug information (CONFIG_DEBUG_INFO; not stripped)", path.display())]
    NoDebugInformation {
        /// The file.
        path: PathBuf,
    },
    /// Its debug information is damaged, or of an unknown kind.
    #[error("can't read the debug information of {}: {error}", path.display())]
    Dwarf {
        /// The file.
        path: PathBuf,
        /// The error.
        error: addr2line::gimli::Error,
    },
}

crate::exit::has_exit_code!(LinesError => USAGE);

impl LineSources {
    /// Whether the file that the user named, if one was, has debug information, and of this kernel if that is known. Reads
    /// no more than that.
    ///
    /// # Errors
    /// It can't be used.
    pub fn check(&self, kernel: Option<Kernel<'_>>) -> Result<(), LinesError> {
        let Some(path) = &self.vmlinux else { return Ok(()) };
        let file = open(path)?;
        let image = Image::parse(&file).map_err(|error| LinesError::Elf { path: path.clone(), error })?;
        verify(path, &image, kernel.and_then(|kernel| kernel.build_id))
    }
}

fn open(path: &Path) -> Result<File, LinesError> {
    File::open(path).map_err(|error| LinesError::File { path: path.to_owned(), error })
}

fn verify(path: &Path, image: &Image<'_>, build_id: Option<&str>) -> Result<(), LinesError> {
    let found = image.build_id();
    if let Some(kernel) = build_id
        && !found.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(kernel))
    {
        return Err(LinesError::OtherKernel { path: path.to_owned(), found, kernel: kernel.to_owned() });
    }
    if image.has_debug_information() { Ok(()) } else { Err(LinesError::NoDebugInformation { path: path.to_owned() }) }
}

/// The source lines of `frames`. Frames without an answer, and all of them where no debug information is found, are not in the
/// result. Reads nothing but the named file's header if there are no frames.
///
/// # Errors
/// The file that the user named can't be used.
pub fn lines(frames: &BTreeSet<&str>, kernel: Kernel<'_>, search: &LineSources) -> Result<Lines, LinesError> {
    search.check(Some(kernel))?;
    let mut by_module: BTreeMap<Option<&str>, Vec<Frame<'_>>> = BTreeMap::new();
    for frame in frames.iter().filter_map(|text| Frame::parse(text)) {
        by_module.entry(frame.module).or_default().push(frame);
    }
    if by_module.is_empty() {
        return Ok(Lines::new());
    }
    if let Some(path) = &search.vmlinux {
        if kernel.build_id.is_none() {
            warn!("the kernel's build id is not known: nobody can tell whether {} is of it", path.display());
        }
        return of_kernel(path, kernel, &by_module, search);
    }
    if kernel.build_id.is_none() {
        debug!("no source lines: the kernel's build id is not known");
        return Ok(Lines::new());
    }
    for path in places::vmlinux(search, kernel.release) {
        match of_kernel(&path, kernel, &by_module, search) {
            Ok(lines) => return Ok(lines),
            Err(error) => debug!("passed over: {error}"),
        }
    }
    Ok(Lines::new())
}

/// Where the sources were is known by a file whose place in them is known.
fn root_of(image: &Image<'_>, dwarf: &Dwarf<'_>) -> String {
    let start = image.functions(&BTreeSet::from(["start_kernel"])).remove("start_kernel").unwrap_or_default();
    let root = start.first().and_then(|start| dwarf.lines(start.range.start, "start_kernel"));
    let root = root.and_then(|lines| Some(lines.last()?.file.strip_suffix("init/main.c")?.to_owned()));
    root.unwrap_or_default()
}

/// With this `vmlinux`, and the modules that belong to it.
fn of_kernel(
    path: &Path,
    kernel: Kernel<'_>,
    by_module: &BTreeMap<Option<&str>, Vec<Frame<'_>>>,
    search: &LineSources,
) -> Result<Lines, LinesError> {
    debug!("source lines from {}", path.display());
    let file = open(path)?;
    let as_elf = |error| LinesError::Elf { path: path.to_owned(), error };
    let as_dwarf = |error| LinesError::Dwarf { path: path.to_owned(), error };
    let image = Image::parse(&file).map_err(as_elf)?;
    verify(path, &image, kernel.build_id)?;
    let sections = image.debug_sections().map_err(as_elf)?;
    let mut dwarf = Dwarf::new(&sections, "").map_err(as_dwarf)?;
    dwarf.root = root_of(&image, &dwarf);

    let mut lines = Lines::new();
    if let Some(frames) = by_module.get(&None) {
        lines = frame::resolve(&image, &dwarf, frames).lines;
    }
    let named: BTreeSet<&str> = by_module.keys().copied().flatten().collect();
    let mut files = places::modules(path, search, kernel.release, &named);
    for name in named {
        let candidates = files.remove(name).unwrap_or_default();
        lines.extend(of_module(&candidates, kernel, &dwarf.root, &by_module[&Some(name)]));
    }
    Ok(lines)
}

/// With the one of these files that can be the module's. What was built in other ways says other things: then nobody knows.
fn of_module(candidates: &[PathBuf], kernel: Kernel<'_>, root: &str, frames: &[Frame<'_>]) -> Lines {
    let mut answer: Option<Lines> = None;
    for path in candidates {
        let lines = match one_module(path, kernel, root, frames) {
            Ok(lines) => lines,
            Err(why) => {
                debug!("passed over: {}: {why}", path.display());
                continue;
            }
        };
        match &answer {
            None => answer = Some(lines),
            Some(before) if *before == lines => {}
            Some(_) => {
                debug!("{} and a file before it say different things of the same module", path.display());
                return Lines::new();
            }
        }
    }
    answer.unwrap_or_default()
}

fn one_module(path: &Path, kernel: Kernel<'_>, root: &str, frames: &[Frame<'_>]) -> Result<Lines, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let image = Image::parse(&file).map_err(|error| error.to_string())?;
    if image.release().is_some_and(|release| release != kernel.release) {
        return Err("it is of another kernel release".to_owned());
    }
    if !image.has_debug_information() {
        return Err("it has no debug information".to_owned());
    }
    let sections = image.debug_sections().map_err(|error| error.to_string())?;
    let dwarf = Dwarf::new(&sections, root).map_err(|error| error.to_string())?;
    let resolved = frame::resolve(&image, &dwarf, frames);
    // A journal doesn't say which build of a module it was. One from other sources has its calls elsewhere.
    match resolved.misfits.first() {
        Some(frame) => Err(format!("there is no call before {frame}")),
        None => Ok(resolved.lines),
    }
}

#[cfg(test)]
mod tests;
