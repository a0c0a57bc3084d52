//! The kernel's symbols: `/proc/kallsyms`.
//!
//! Making the text of that file is what costs (the kernel unpacks every name), so it is read when somebody must be told names
//! ([`Kallsyms`]). A few [`Addresses`] the kernel is asked for; where it does not tell, the file is read as far as needed.

mod ask;
mod frames;

use std::collections::BTreeSet;
use std::io::Read;
use std::ops::Range;

use tracing::debug;

use super::{KernelError, KernelFiles};
use crate::plan::{StackPattern, StackPatternKind, suggest};

const FILE: &str = "proc/kallsyms";
/// Longer symbols don't exist (KSYM_NAME_LEN is 512 since 6.1).
const MAX_LINE: usize = 1024;
/// What GCC calls its first copy of a function, with other arguments, for constant ones, or both: who can't read all names
/// looks for these. (Of 6.12.117's functions, all that have copies, but for parts, have
/// one of these.)
const CLONES: [&str; 3] = ["isra.0", "constprop.0", "constprop.0.isra.0"];

/// Addresses of a few symbols.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    found: Vec<(String, u64)>,
    clones: Vec<String>,
    all_zero: bool,
}

/// A symbol that an address lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// How far into it the address lies.
    pub offset: u64,
    /// The module it belongs to; `None`: the kernel proper.
    pub module: Option<&'a str>,
}

/// All functions by address.
#[derive(Debug, Default)]
pub struct Kallsyms {
    symbols: Vec<Entry>,
    names: String,
    modules: Vec<String>,
}

/// 16 bytes, there are 200,000 of them. A length of 0: only the end of the function before it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    name: u32,
    length: u16,
    /// 0: the kernel proper, else an index into `modules`, plus one.
    module: u16,
}

/// A pattern that no function matches.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", no_match(.pattern, .close, *.length))]
pub struct NoMatch {
    /// The pattern.
    pub pattern: StackPattern,
    /// Names that look like it.
    pub close: Vec<String>,
    /// Of a piece of a function, how long the longest function of that name is.
    pub length: Option<u64>,
}

fn no_match(pattern: &StackPattern, close: &[String], length: Option<u64>) -> String {
    let hint = suggest::did_you_mean(close);
    let name = pattern.bare();
    match (pattern.kind(), length) {
        (StackPatternKind::Piece { .. }, Some(length)) => {
            format!("`{pattern}` does not lie in {name}, which is {length:#x} bytes long on this kernel")
        }
        (StackPatternKind::Piece { .. }, None) => {
            format!("no kernel function is called `{name}` (it may be inlined){hint}")
        }
        (StackPatternKind::Range { .. }, _) => {
            format!("no kernel code lies at `{pattern}`; addresses change with every boot, unless it is with nokaslr")
        }
        (StackPatternKind::Symbol, _) => format!("no kernel function is called `{pattern}` (it may be inlined){hint}"),
        (StackPatternKind::Glob, _) => format!("no kernel function matches `{pattern}`{hint}"),
        (StackPatternKind::Module, _) => {
            format!("no module `{name}` is loaded; if it is built into the kernel, use a glob: `{name}_*`{hint}")
        }
    }
}

/// A line of the file.
struct Line<'a> {
    address: u64,
    kind: u8,
    name: &'a str,
    module: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// `ffffffffc0a01000 t xfs_trans_alloc\t[xfs]`
    fn parse(line: &'a [u8]) -> Option<Self> {
        let blank = line.iter().position(|b| *b == b' ')?;
        let mut address = 0u64;
        for digit in &line[..blank] {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            address = address << 4 | u64::from(digit);
        }
        let kind = *line.get(blank + 1)?;
        let rest = std::str::from_utf8(line.get(blank + 3..)?).ok()?;
        let (name, module) = match rest.split_once('\t') {
            Some((name, module)) => (name, module.strip_prefix('[').and_then(|module| module.strip_suffix(']'))),
            None => (rest, None),
        };
        Some(Self { address, kind, name, module })
    }

    fn is_function(&self) -> bool {
        matches!(self.kind, b't' | b'T' | b'w' | b'W')
    }

    /// Names the padding before a function. No stack has it in it, and as a part of the function before it, it lets
    /// the ranges of neighbours merge.
    fn is_padding(&self) -> bool {
        self.name.starts_with("__pfx_")
    }
}

/// Reads the file in pieces and hands over each line until `each` says to stop.
fn each_line(files: &KernelFiles, mut each: impl FnMut(&[u8]) -> Continue) -> Result<(), KernelError> {
    let path = files.path(FILE);
    let mut file = files.open(FILE)?;
    let mut buffer = vec![0; 1 << 16];
    let mut filled = 0;
    loop {
        let count = match file.read(&mut buffer[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(KernelError::File { path, error }),
        };
        filled += count;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[..filled]) {
            if matches!(each(&buffer[start..end]), Continue::No) {
                return Ok(());
            }
            start = end + 1;
        }
        if count == 0 {
            if start < filled {
                each(&buffer[start..filled]);
            }
            return Ok(());
        }
        if filled - start > MAX_LINE {
            return Err(KernelError::Malformed { what: path.display().to_string(), why: "line too long".to_owned() });
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

enum Continue {
    Yes,
    No,
}

/// How many functions, modules' included, each of the names has.
///
/// # Errors
/// The file can't be read.
pub fn count(files: &KernelFiles, names: &[&str]) -> Result<Vec<usize>, KernelError> {
    let mut counts = vec![0; names.len()];
    each_line(files, |line| {
        if let Some(line) = Line::parse(line).filter(Line::is_function) {
            for (count, _) in counts.iter_mut().zip(names).filter(|(_, name)| **name == line.name) {
                *count += 1;
            }
        }
        Continue::Yes
    })?;
    Ok(counts)
}

/// The names, and those that copies of `cloned` usually have.
fn with_clones(names: &[&str], cloned: &[&str]) -> Vec<String> {
    let clones = cloned.iter().flat_map(|function| CLONES.map(|copy| format!("{function}.{copy}")));
    names.iter().map(|name| (*name).to_owned()).chain(clones).collect()
}

impl Addresses {
    /// Of the running kernel, without reading the file where that can be had: [`Addresses::read`] does it else. Of copies only
    /// those with usual names are found.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn ask(
        files: &KernelFiles,
        names: &[&str],
        cloned: &[&str],
        enough: impl Fn(&Self) -> bool,
    ) -> Result<Self, KernelError> {
        if !files.are_of_running_kernel() {
            return Self::read(files, names, cloned, enough);
        }
        let all = with_clones(names, cloned);
        let answers = match ask::ask(&all) {
            Ok(answers) => answers,
            Err(error) => {
                debug!("the kernel does not tell addresses by name, so /{FILE} is read: {error}");
                return Self::read(files, names, cloned, enough);
            }
        };
        let known = all.into_iter().zip(answers).filter_map(|(name, address)| Some((name, address?)));
        let (found, clones): (Vec<_>, Vec<_>) = known.partition(|(name, _)| names.contains(&name.as_str()));
        let mut this = Self { found, clones: Vec::new(), all_zero: false };
        if let (Some(start), Some(end)) = (this.get("_stext"), this.get("_etext")) {
            // A module's are of functions of its own.
            let in_text = |(name, address)| (start..end).contains(&address).then_some(name);
            this.clones = clones.into_iter().filter_map(in_text).collect();
        }
        Ok(this)
    }

    /// Finds `names` in the kernel proper, and the compiler's copies (`name.constprop.0`) of `cloned`. Reads until what
    /// was found is `enough`, or to the end of the kernel proper.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read(
        files: &KernelFiles,
        names: &[&str],
        cloned: &[&str],
        enough: impl Fn(&Self) -> bool,
    ) -> Result<Self, KernelError> {
        let mut this = Self { all_zero: true, ..Self::default() };
        each_line(files, |line| {
            let Some(Line { address, kind, name, module }) = Line::parse(line) else { return Continue::Yes };
            // The kernel proper comes first, then modules.
            if module.is_some() {
                return Continue::No;
            }
            // Per-CPU symbols are small numbers, and one of them may be 0.
            this.all_zero &= address == 0;
            if names.contains(&name) {
                if this.get(name).is_none() {
                    this.found.push((name.to_owned(), address));
                }
                if enough(&this) {
                    return Continue::No;
                }
            } else if matches!(kind, b't' | b'T')
                && cloned.iter().any(|f| name.strip_prefix(f).is_some_and(|rest| rest.starts_with('.')))
                && !name.ends_with(".cold")
            {
                this.clones.push(name.to_owned());
            }
            Continue::Yes
        })?;
        Ok(this)
    }

    /// The address of a symbol that was asked for, unless the kernel hides addresses or has no such symbol.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        if self.all_zero {
            return None;
        }
        self.found.iter().find(|(found, _)| found == name).map(|(_, address)| *address)
    }

    /// Whether the kernel hides all addresses (kptr_restrict).
    #[must_use]
    pub fn are_hidden(&self) -> bool {
        self.all_zero
    }

    /// The compiler's copies of a function.
    pub fn clones_of<'a>(&'a self, function: &'a str) -> impl Iterator<Item = &'a str> {
        let copy_of = move |clone: &&str| clone.strip_prefix(function).is_some_and(|rest| rest.starts_with('.'));
        self.clones.iter().map(String::as_str).filter(copy_of)
    }

    /// A copy that the kernel calls instead of the function. Copies of a part (`.part`) are called by the function.
    #[must_use]
    pub fn called_instead_of<'a>(&'a self, function: &'a str) -> Option<&'a str> {
        self.clones_of(function).find(|clone| !clone.contains(".part."))
    }
}

impl Kallsyms {
    /// Reads all functions.
    ///
    /// # Errors
    /// The file can't be read, or hides the addresses.
    pub fn read(files: &KernelFiles) -> Result<Self, KernelError> {
        let mut this = Self::default();
        let mut all_zero = true;
        let mut last_was_function = false;
        each_line(files, |line| {
            let Some(line) = Line::parse(line) else { return Continue::Yes };
            all_zero &= line.address == 0;
            if line.is_padding() {
                return Continue::Yes;
            }
            let is_function = line.is_function();
            // What follows a function ends it. Modules come unsorted, so there every symbol may be such an end.
            if is_function || last_was_function || line.module.is_some() {
                this.push(&line, is_function);
            }
            last_was_function = is_function;
            Continue::Yes
        })?;
        if all_zero {
            return Err(KernelError::HiddenAddresses);
        }
        // Stable: of several names for one address the kernel's tools use the first.
        this.symbols.sort_by_key(|entry| entry.address);
        let mut keep_end = false;
        this.symbols.retain(|entry| {
            let keep = entry.length > 0 || keep_end;
            keep_end = entry.length > 0;
            keep
        });
        this.symbols.shrink_to_fit();
        this.names.shrink_to_fit();
        Ok(this)
    }

    fn push(&mut self, line: &Line<'_>, is_function: bool) {
        let module = line.module.map_or(0, |module| {
            // Symbols of one module come together.
            let known = self.modules.iter().rposition(|known| known == module);
            let index = known.unwrap_or_else(|| {
                self.modules.push(module.to_owned());
                self.modules.len() - 1
            });
            u16::try_from(index + 1).unwrap_or(u16::MAX)
        });
        let mut entry = Entry { address: line.address, name: 0, length: 0, module };
        if is_function {
            entry.name = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            entry.length = u16::try_from(line.name.len()).unwrap_or(0);
            self.names.push_str(line.name);
        }
        self.symbols.push(entry);
    }

    fn name(&self, entry: &Entry) -> &str {
        let start = entry.name as usize;
        self.names.get(start..start + usize::from(entry.length)).unwrap_or_default()
    }

    fn module(&self, entry: &Entry) -> Option<&str> {
        let index = usize::from(entry.module).checked_sub(1)?;
        self.modules.get(index).map(String::as_str)
    }

    fn functions(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.symbols.iter().filter(|entry| entry.length > 0)
    }

    /// How many functions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.functions().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The address of a function.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.functions().find(|entry| self.name(entry) == name).map(|entry| entry.address)
    }

    /// The addresses of a function.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<Range<u64>> {
        let start = self.symbol(name)?;
        let next = self.symbols.partition_point(|entry| entry.address <= start);
        // The last function of all: as in `lookup`.
        Some(start..self.symbols.get(next).map_or(start + (1 << 16), |next| next.address))
    }

    /// The function that an address lies in.
    #[must_use]
    pub fn lookup(&self, address: u64) -> Option<Symbol<'_>> {
        let after = self.symbols.partition_point(|entry| entry.address <= address);
        let start = self.symbols[..after].last()?.address;
        let first = self.symbols[..after].partition_point(|entry| entry.address < start);
        let entry = self.symbols[first..after].iter().find(|entry| entry.length > 0)?;
        // After the last symbol of all nothing is known to end it.
        if after == self.symbols.len() && address - start > 1 << 16 {
            return None;
        }
        Some(Symbol { name: self.name(entry), offset: address - start, module: self.module(entry) })
    }

    /// The function that a return address on a stack belongs to: the one of the call before it. A call that never
    /// comes back may be a function's last instruction, so its return address already lies in the next function.
    #[must_use]
    pub fn lookup_return(&self, address: u64) -> Option<Symbol<'_>> {
        let symbol = self.lookup(address.checked_sub(1)?)?;
        Some(Symbol { offset: symbol.offset + 1, ..symbol })
    }

    /// The addresses of the function that the `i`-th symbol is.
    fn addresses(&self, i: usize) -> Range<u64> {
        let start = self.symbols[i].address;
        let next = self.symbols[i + 1..].iter().find(|next| next.address > start);
        // The last function of all: as in `lookup`.
        start..next.map_or(start + (1 << 16), |next| next.address)
    }

    /// Whether some function lies there, or a part of one.
    fn has_code(&self, addresses: &Range<u64>) -> bool {
        let before_end = self.symbols.partition_point(|entry| entry.address < addresses.end);
        let last = self.symbols[..before_end].iter().rposition(|entry| entry.length > 0);
        last.is_some_and(|last| self.addresses(last).end > addresses.start)
    }

    /// The addresses of all that some pattern matches: sorted, neighbours merged.
    ///
    /// # Errors
    /// A pattern matches nothing.
    pub fn ranges(&self, patterns: &[StackPattern]) -> Result<Vec<Range<u64>>, NoMatch> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut used = vec![false; patterns.len()];
        let mut lengths = vec![None; patterns.len()];
        for (i, entry) in self.symbols.iter().enumerate().filter(|(_, entry)| entry.length > 0) {
            let (name, module) = (self.name(entry), self.module(entry));
            let mut whole = false;
            for (p, pattern) in patterns.iter().enumerate().filter(|(_, pattern)| pattern.matches(name, module)) {
                if let StackPatternKind::Piece { start, end } = pattern.kind() {
                    let function = self.addresses(i);
                    let length = function.end - function.start;
                    lengths[p] = lengths[p].max(Some(length));
                    if end > length {
                        continue;
                    }
                    ranges.push(function.start + start..function.start + end);
                } else {
                    whole = true;
                }
                used[p] = true;
            }
            if whole {
                ranges.push(self.addresses(i));
            }
        }
        for (pattern, used) in patterns.iter().zip(&mut used) {
            if let StackPatternKind::Range { start, end } = pattern.kind()
                && self.has_code(&(start..end))
            {
                *used = true;
                ranges.push(start..end);
            }
        }
        match used.iter().position(|used| !used) {
            Some(p) => {
                let pattern = &patterns[p];
                Err(NoMatch { pattern: pattern.clone(), close: self.close(pattern), length: lengths[p] })
            }
            None => Ok(merged(ranges)),
        }
    }

    /// The addresses of all functions with names that are wanted: sorted, neighbours merged.
    pub fn ranges_of(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Range<u64>> {
        let wanted =
            (0..self.symbols.len()).filter(|i| self.symbols[*i].length > 0 && is_wanted(self.name(&self.symbols[*i])));
        merged(wanted.map(|i| self.addresses(i)).collect())
    }

    /// Names that look like a pattern.
    fn close(&self, pattern: &StackPattern) -> Vec<String> {
        if matches!(pattern.kind(), StackPatternKind::Range { .. }) {
            return Vec::new();
        }
        if pattern.kind() == StackPatternKind::Module {
            let modules = self.modules.iter().map(String::as_str);
            return suggest::close(pattern.bare(), modules, 3).into_iter().map(|name| format!("[{name}]")).collect();
        }
        let names = self.functions().map(|entry| self.name(entry));
        let plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let stem = &pattern.bare()[..pattern.bare().bytes().take_while(plain).count()];
        if pattern.kind() == StackPatternKind::Glob {
            // What the names start with instead.
            let stems: BTreeSet<&str> = names.filter_map(|name| name.get(..stem.len())).collect();
            return suggest::close(stem, stems, 3).into_iter().map(|stem| format!("{stem}*")).collect();
        }
        // What contains the name is closer than what is spelt alike.
        let containing = names.clone().filter(|name| stem.len() >= 3 && name.contains(stem)).take(3);
        let mut close: Vec<&str> = containing.collect();
        for name in suggest::close(stem, names, 3) {
            if close.len() < 3 && !close.contains(&name) {
                close.push(name);
            }
        }
        close.into_iter().map(str::to_owned).collect()
    }
}

/// The same addresses: sorted, neighbours merged.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    ranges
}

#[cfg(test)]
mod tests;
