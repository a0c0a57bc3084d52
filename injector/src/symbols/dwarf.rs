//! Debug information: from an address to lines and inlined functions.

use std::collections::HashMap;

use addr2line::{
    Context,
    gimli::{self, EndianSlice, LittleEndian},
};

use super::{Line, elf::DebugSections};

/// The debug information of a file. What an address needs is read when it is asked for.
pub(super) struct Dwarf<'a> {
    context: Context<EndianSlice<'a, LittleEndian>>,
    /// Where the kernel's sources were; empty, or with a slash at the end.
    pub(super) root: String,
}

impl<'a> Dwarf<'a> {
    pub(super) fn new(sections: &'a DebugSections<'_>, root: &str) -> Result<Self, gimli::Error> {
        let dwarf = gimli::Dwarf::load(|id| Ok::<_, gimli::Error>(EndianSlice::new(sections.get(id), LittleEndian)))?;
        Ok(Self { context: Context::from_dwarf(dwarf)?, root: root.to_owned() })
    }

    /// An address of each piece of code that is of this file.
    pub(super) fn code_of(&self, file: &str) -> Result<Vec<u64>, gimli::Error> {
        let mut known: HashMap<String, bool> = HashMap::new();
        let mut addresses = Vec::new();
        for (address, _, location) in self.context.find_location_range(0, u64::MAX)? {
            let Some(found) = location.file else { continue };
            let is_it = match known.get(found) {
                Some(is_it) => *is_it,
                None => {
                    let is_it = relative(found, &[&self.root, &self.directory(address)]) == file;
                    known.insert(found.to_owned(), is_it);
                    is_it
                }
            };
            if is_it {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// The directory that the code at an address was compiled in, with a slash at the end; empty if nobody knows.
    fn directory(&self, address: u64) -> String {
        let unit = self.context.find_dwarf_and_unit(address).skip_all_loads();
        let directory = unit.and_then(|unit| unit.comp_dir);
        directory.map(|directory| directory.to_string_lossy().into_owned() + "/").unwrap_or_default()
    }

    /// What is at an address of `function`: what was inlined there, innermost first, and at last the function itself; none
    /// unless its own line is known.
    pub(super) fn lines(&self, address: u64, function: &str) -> Option<Vec<Line>> {
        self.context.find_dwarf_and_unit(address).skip_all_loads()?;
        let directory = self.directory(address);
        let mut frames = self.context.find_frames(address).skip_all_loads().ok()?;
        let mut lines = Vec::new();
        let mut own = false;
        while let Some(frame) = frames.next().ok()? {
            let place = frame.location.and_then(|place| Some((place.file?, place.line.filter(|line| *line > 0)?)));
            own = place.is_some();
            let Some((file, line)) = place else { continue };
            let name = frame.function.as_ref().and_then(|name| name.raw_name().ok());
            let name = name.map_or_else(|| function.to_owned(), |name| name.into_owned());
            let file = relative(file, &[&self.root, &directory]);
            lines.push(Line { function: name, file, line, inlined: true });
        }
        let last = lines.last_mut().filter(|_| own)?;
        last.inlined = false;
        Some(lines)
    }
}

/// A file's path as it is in the sources, without `.` and `..`.
fn relative(file: &str, roots: &[&str]) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in file.split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|last| !last.is_empty() && *last != "..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let file = parts.join("/");
    let root = roots.iter().filter(|root| !root.is_empty()).find_map(|root| file.strip_prefix(root));
    root.map_or(file.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_sources() {
        let roots = ["/build/linux/", "/build/object/"];
        assert_eq!(relative("/build/linux/fs/ext4/super.c", &roots), "fs/ext4/super.c");
        assert_eq!(relative("/build/linux/./include/linux/slab.h", &roots), "include/linux/slab.h");
        assert_eq!(relative("/build/object/../linux/fs/open.c", &roots), "fs/open.c");
        assert_eq!(relative("/build/object/generated/x.h", &roots), "generated/x.h");
        assert_eq!(relative("/elsewhere/module.c", &roots), "/elsewhere/module.c");
        assert_eq!(relative("../../fs/open.c", &["", ""]), "../../fs/open.c");
        assert_eq!(relative("/../x.c", &[""]), "/../x.c");
    }
}
