//! An ELF file of x86-64, a `vmlinux` or a module: its build id, functions, code, and debug sections.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs, io,
    ops::{Deref, Range},
    path::Path,
};

use addr2line::gimli::SectionId;
use memmap2::Mmap;
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationKind, RelocationTarget, SectionIndex,
    elf,
    read::{
        self,
        elf::{ElfFile64, ElfSection64, FileHeader as _, SectionHeader as _},
    },
};

use crate::arch::{LONGEST_CALL, ends_in_call};

/// What lines and inlined functions are made from.
const SECTIONS: [SectionId; 10] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugAranges,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

/// A file in memory, of which only what is used is read.
#[derive(Debug)]
pub(super) struct File(Mmap);

impl File {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = fs::File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        // SAFETY: the mapping is private and read-only. Whoever cuts the file short meanwhile ends this program, and whoever
        // writes to it makes lines wrong; neither breaks memory safety, since all readers check bounds.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(Self(map))
    }
}

impl Deref for File {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A function: its addresses, and the section that it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) range: Range<u64>,
    section: SectionIndex,
}

/// An ELF file.
#[derive(Debug)]
pub(super) struct Image<'data> {
    elf: ElfFile64<'data, LittleEndian>,
    /// What is added to addresses in a section: in a module's file, every section starts at 0.
    bases: HashMap<SectionIndex, u64>,
}

/// The sections of its debug information; none that it lacks.
#[derive(Debug)]
pub(super) struct DebugSections<'data>(Vec<(SectionId, Cow<'data, [u8]>)>);

impl DebugSections<'_> {
    /// A section; nothing of one that it lacks.
    pub(super) fn get(&self, id: SectionId) -> &[u8] {
        self.0.iter().find(|(known, _)| *known == id).map_or(&[], |(_, bytes)| bytes)
    }
}

impl<'data> Image<'data> {
    pub(super) fn parse(file: &'data [u8]) -> Result<Self, read::Error> {
        let elf = ElfFile64::<LittleEndian>::parse(file)?;
        let mut bases = HashMap::new();
        if elf.elf_header().e_type(LittleEndian) == elf::ET_REL {
            // Far enough from 0, which debug information has for what was thrown away.
            let mut next = 0x1_0000;
            for section in elf.sections().filter(|section| flags(section) & u64::from(elf::SHF_ALLOC) != 0) {
                bases.insert(section.index(), next);
                next = (next + section.size())
                    .next_multiple_of(section.align().clamp(1, 1 << 20).next_power_of_two().max(0x1000));
            }
        }
        Ok(Self { elf, bases })
    }

    /// GNU build id, hexadecimal.
    pub(super) fn build_id(&self) -> Option<String> {
        let id = self.elf.build_id().ok()??;
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(super) fn has_debug_information(&self) -> bool {
        let section = self.elf.section_by_name(".debug_info");
        section.is_some_and(|section| {
            section.size() > 0 && section.elf_section_header().sh_type(LittleEndian) != elf::SHT_NOBITS
        })
    }

    /// The kernel release that a module says that it was built for.
    pub(super) fn release(&self) -> Option<&'data str> {
        let information = self.elf.section_by_name(".modinfo")?.data().ok()?;
        let magic = information.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"vermagic="))?;
        std::str::from_utf8(magic).ok()?.split(' ').next()
    }

    /// Whether a function lies in a section of that name.
    #[cfg(test)]
    pub(super) fn is_in(&self, function: &Function, name: &str) -> bool {
        self.elf.section_by_index(function.section).is_ok_and(|section| section.name() == Ok(name))
    }

    /// What was added to a function's addresses.
    #[cfg(test)]
    pub(super) fn base_of(&self, function: &Function) -> u64 {
        self.base(function.section)
    }

    fn base(&self, section: SectionIndex) -> u64 {
        self.bases.get(&section).copied().unwrap_or(0)
    }

    /// The functions of these names; of a name there may be several.
    pub(super) fn functions<'a>(&self, names: &BTreeSet<&'a str>) -> BTreeMap<&'a str, Vec<Function>> {
        let code: HashSet<SectionIndex> = self
            .elf
            .sections()
            .filter(|section| flags(section) & u64::from(elf::SHF_EXECINSTR) != 0)
            .map(|section| section.index())
            .collect();
        let mut starts = BTreeSet::new();
        let mut found: BTreeMap<&'a str, Vec<Function>> = BTreeMap::new();
        for symbol in self.elf.symbols() {
            let Some(section) = symbol.section_index().filter(|section| code.contains(section)) else { continue };
            if !matches!(symbol.elf_symbol().st_type(), elf::STT_FUNC | elf::STT_NOTYPE) {
                continue;
            }
            let start = self.base(section).wrapping_add(symbol.address());
            starts.insert(start);
            let Some(name) = symbol.name().ok().and_then(|name| names.get(name)) else { continue };
            let all = found.entry(name).or_default();
            if !all.iter().any(|function| function.range.start == start) {
                all.push(Function { range: start..start.saturating_add(symbol.size()), section });
            }
        }
        // Code in assembler often has no size: it goes on to the next symbol.
        for function in found.values_mut().flatten().filter(|function| function.range.is_empty()) {
            let next = starts.range(function.range.start + 1..).next();
            function.range.end = next.copied().unwrap_or(function.range.start);
        }
        found
    }

    /// The functions with these addresses, by their symbols. Of several symbols for one function, one is taken.
    pub(super) fn functions_at(&self, addresses: &[u64]) -> Vec<(String, Function)> {
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        let mut found: BTreeMap<u64, (String, Function)> = BTreeMap::new();
        for symbol in self.elf.symbols().filter(|symbol| symbol.elf_symbol().st_type() == elf::STT_FUNC) {
            let Some(section) = symbol.section_index() else { continue };
            let start = self.base(section).wrapping_add(symbol.address());
            let range = start..start.saturating_add(symbol.size());
            let first = sorted.partition_point(|address| *address < range.start);
            if sorted.get(first).is_some_and(|address| range.contains(address))
                && let Ok(name) = symbol.name()
            {
                found.entry(start).or_insert_with(|| (name.to_owned(), Function { range, section }));
            }
        }
        found.into_values().collect()
    }

    /// Whether a call in the function may return to `address`; none if the file doesn't have the code.
    pub(super) fn is_after_call(&self, function: &Function, address: u64) -> Option<bool> {
        let section = self.elf.section_by_index(function.section).ok()?;
        let code = section.data().ok().filter(|code| !code.is_empty())?;
        let offset = |address: u64| {
            let offset = address.checked_sub(self.base(function.section))?.checked_sub(section.address())?;
            usize::try_from(offset).ok()
        };
        let (start, end) = (offset(function.range.start)?, offset(address)?);
        Some(ends_in_call(code.get(start.max(end.saturating_sub(LONGEST_CALL))..end)?))
    }

    /// The debug information, unpacked and relocated.
    pub(super) fn debug_sections(&self) -> Result<DebugSections<'data>, read::Error> {
        let mut all = Vec::new();
        for id in SECTIONS {
            let Some(section) = self.elf.section_by_name(id.name()) else { continue };
            let mut bytes = section.uncompressed_data()?;
            if !self.bases.is_empty() {
                self.relocate(&section, bytes.to_mut());
            }
            all.push((id, bytes));
        }
        Ok(DebugSections(all))
    }

    fn relocate(&self, section: &ElfSection64<'data, '_, LittleEndian>, bytes: &mut [u8]) {
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let Ok(symbol) = self.elf.symbol_by_index(symbol) else { continue };
            if relocation.kind() != RelocationKind::Absolute {
                continue;
            }
            let base = symbol.section_index().map_or(0, |section| self.base(section));
            let value = base.wrapping_add(symbol.address()).wrapping_add_signed(relocation.addend()).to_le_bytes();
            let size = usize::from(relocation.size() / 8);
            let place = usize::try_from(offset).ok().and_then(|start| bytes.get_mut(start..start.checked_add(size)?));
            if let (Some(place), Some(value)) = (place, value.get(..size)) {
                place.copy_from_slice(value);
            }
        }
    }
}

fn flags(section: &ElfSection64<'_, '_, LittleEndian>) -> u64 {
    section.elf_section_header().sh_flags(LittleEndian)
}
