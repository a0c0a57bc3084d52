//! The kernel's type information (BTF), read lean: one pass over the types finds everything that was asked for.
//!
//! The format: Documentation/bpf/btf.rst in the kernel's source.

use std::fmt::Write as _;

use super::{KernelError, KernelFiles};

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_FLOAT: u32 = 16;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Type chains and nested structures in real kernels are far shorter; a loop in broken data ends here.
const MAX_DEPTH: u32 = 32;

/// What to look for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Structures by name.
    pub structs: &'a [&'a str],
    /// Functions by name.
    pub functions: &'a [&'a str],
    /// Enums whose first enumerator starts so.
    pub enumerators: &'a [&'a str],
}

/// Type information with what was wanted of it.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    types: usize,
    strings: usize,
    /// Where each type starts, by its id; id 0 is void.
    starts: Vec<u32>,
    structs: Vec<(String, u32)>,
    functions: Vec<(String, u32)>,
    enums: Vec<u32>,
}

/// A decoded type header.
#[derive(Clone, Copy)]
struct Header {
    name: u32,
    info: u32,
    size_or_type: u32,
}

impl Header {
    fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    fn count(self) -> usize {
        (self.info & 0xffff) as usize
    }

    fn has_bitfields(self) -> bool {
        self.info >> 31 == 1
    }

    /// Bytes behind the header; `None`: a kind from the future, whose length is unknown.
    fn extra(self) -> Option<usize> {
        Some(match self.kind() {
            KIND_PTR | KIND_FWD | KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_FUNC
            | KIND_FLOAT | KIND_TYPE_TAG => 0,
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * self.count(),
            KIND_ENUM | KIND_FUNC_PROTO => 8 * self.count(),
            _ => return None,
        })
    }
}

const HEADER: usize = 12;

fn malformed(why: &str) -> KernelError {
    KernelError::Malformed { what: "BTF".to_owned(), why: why.to_owned() }
}

impl Btf {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// The kernel has none, or it is malformed.
    pub fn read(files: &KernelFiles, wanted: Wanted<'_>) -> Result<Self, KernelError> {
        Self::parse(files.read("sys/kernel/btf/vmlinux")?, wanted)
    }

    /// Parses raw BTF.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse(data: Vec<u8>, wanted: Wanted<'_>) -> Result<Self, KernelError> {
        let word = |at: usize| u32_at(&data, at).map(|word| word as usize).ok_or_else(|| malformed("too short"));
        if data.get(..2) != Some(&MAGIC.to_le_bytes()[..]) {
            return Err(malformed("wrong magic number"));
        }
        let header_length = word(4)?;
        let types = header_length + word(8)?;
        let types_end = types + word(12)?;
        let strings = header_length + word(16)?;
        let strings_end = strings + word(20)?;
        if types_end > data.len() || strings_end > data.len() {
            return Err(malformed("sections end after the data"));
        }
        let mut data = data;
        data.truncate(strings_end.max(types_end));
        let mut btf = Self { data, types, strings, starts: vec![0], structs: vec![], functions: vec![], enums: vec![] };
        btf.scan(types_end, wanted)?;
        Ok(btf)
    }

    fn scan(&mut self, types_end: usize, wanted: Wanted<'_>) -> Result<(), KernelError> {
        // Types are 25 bytes on average in a vmlinux.
        let mut starts = Vec::with_capacity((types_end - self.types) / 20);
        starts.push(0);
        let mut at = self.types;
        while at < types_end {
            let header = self.header_at(at).ok_or_else(|| malformed("a type ends after the data"))?;
            let id = starts.len() as u32;
            match header.kind() {
                KIND_STRUCT | KIND_UNION if header.name != 0 => {
                    if let Some(name) = self.one_of(header.name, wanted.structs) {
                        self.structs.push((name, id));
                    }
                }
                KIND_FUNC => {
                    if let Some(name) = self.one_of(header.name, wanted.functions) {
                        self.functions.push((name, id));
                    }
                }
                KIND_ENUM if header.count() > 0 => {
                    let first = u32_at(&self.data, at + HEADER).map_or(&b""[..], |name| self.string_from(name));
                    if wanted.enumerators.iter().any(|prefix| first.starts_with(prefix.as_bytes())) {
                        self.enums.push(id);
                    }
                }
                _ => {}
            }
            starts.push(at as u32);
            let extra = header.extra().ok_or_else(|| malformed(&format!("unknown kind {}", header.kind())))?;
            at += HEADER + extra;
        }
        if at != types_end {
            return Err(malformed("the last type ends after its section"));
        }
        self.starts = starts;
        Ok(())
    }

    /// The wanted name that the string is; strings end with a zero byte.
    fn one_of(&self, string: u32, wanted: &[&str]) -> Option<String> {
        let bytes = self.string_from(string);
        let same = |name: &&&str| bytes.get(name.len()) == Some(&0) && bytes.starts_with(name.as_bytes());
        wanted.iter().find(same).map(|name| (*name).to_owned())
    }

    /// Everything from where a string starts.
    fn string_from(&self, offset: u32) -> &[u8] {
        self.data.get(self.strings + offset as usize..).unwrap_or_default()
    }

    fn string(&self, offset: u32) -> &str {
        let bytes = self.string_from(offset);
        let end = memchr::memchr(0, bytes).unwrap_or(0);
        std::str::from_utf8(&bytes[..end]).unwrap_or_default()
    }

    fn header_at(&self, at: usize) -> Option<Header> {
        Some(Header {
            name: u32_at(&self.data, at)?,
            info: u32_at(&self.data, at + 4)?,
            size_or_type: u32_at(&self.data, at + 8)?,
        })
    }

    /// The header of a type and where what follows it starts; `None` for void and for ids that don't exist.
    fn resolve(&self, id: u32) -> Option<(Header, usize)> {
        if id == 0 {
            return None;
        }
        let at = *self.starts.get(id as usize)? as usize;
        Some((self.header_at(at)?, at + HEADER))
    }

    /// How many types there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Byte offset of a member of a wanted structure, also one inside anonymous structures and unions.
    #[must_use]
    pub fn member_offset(&self, structure: &str, member: &str) -> Option<u32> {
        let same = self.structs.iter().filter(|(name, _)| name == structure);
        same.filter_map(|(_, id)| self.member_bits(*id, member, 0)).find_map(|bits| (bits % 8 == 0).then_some(bits / 8))
    }

    fn member_bits(&self, id: u32, wanted: &str, depth: u32) -> Option<u32> {
        let (header, members) = self.resolve(id)?;
        if depth > MAX_DEPTH || !matches!(header.kind(), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for i in 0..header.count() {
            let at = members + 12 * i;
            let name = u32_at(&self.data, at)?;
            let member = u32_at(&self.data, at + 4)?;
            let offset = u32_at(&self.data, at + 8)?;
            let (bits, width) = if header.has_bitfields() { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            if name == 0 {
                let inner = self.skip_qualifiers(member)?;
                if let Some(inner) = self.member_bits(inner, wanted, depth + 1) {
                    return Some(bits + inner);
                }
            } else if width == 0 && self.string(name) == wanted {
                return Some(bits);
            }
        }
        None
    }

    fn skip_qualifiers(&self, id: u32) -> Option<u32> {
        let mut id = id;
        for _ in 0..MAX_DEPTH {
            match self.resolve(id) {
                Some((header, _))
                    if matches!(header.kind(), KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG) =>
                {
                    id = header.size_or_type;
                }
                _ => return Some(id),
            }
        }
        None
    }

    /// All enumerators of the wanted enums.
    pub fn enumerators(&self) -> impl Iterator<Item = (&str, u32)> {
        self.enums.iter().filter_map(|id| self.resolve(*id)).flat_map(move |(header, values)| {
            (0..header.count()).filter_map(move |i| {
                let name = u32_at(&self.data, values + 8 * i)?;
                Some((self.string(name), u32_at(&self.data, values + 8 * i + 4)?))
            })
        })
    }

    /// The id of a wanted function; `None` too where there are several of that name.
    #[must_use]
    pub fn function(&self, function: &str) -> Option<u32> {
        let mut same = self.functions.iter().filter(|(name, _)| name == function);
        let (_, id) = same.next()?;
        same.next().is_none().then_some(*id)
    }

    /// The prototype of a wanted function, without the names of its parameters:
    /// `int should_failslab(struct kmem_cache *, gfp_t)`.
    #[must_use]
    pub fn prototype(&self, function: &str) -> Option<String> {
        let (_, id) = self.functions.iter().find(|(name, _)| name == function)?;
        let (header, _) = self.resolve(*id)?;
        let (proto, parameters) = self.resolve(header.size_or_type)?;
        if proto.kind() != KIND_FUNC_PROTO {
            return None;
        }
        let mut text = self.type_name(proto.size_or_type, 0);
        if !text.ends_with('*') {
            text.push(' ');
        }
        let _ = write!(text, "{function}(");
        for i in 0..proto.count() {
            let parameter = u32_at(&self.data, parameters + 8 * i + 4)?;
            let separator = if i == 0 { "" } else { ", " };
            // A last parameter of type 0 is `...`.
            let name = if parameter == 0 { "...".to_owned() } else { self.type_name(parameter, 0) };
            let _ = write!(text, "{separator}{name}");
        }
        if proto.count() == 0 {
            text.push_str("void");
        }
        text.push(')');
        Some(text)
    }

    fn type_name(&self, id: u32, depth: u32) -> String {
        let Some((header, _)) = self.resolve(id) else { return "void".to_owned() };
        if depth > MAX_DEPTH {
            return "…".to_owned();
        }
        let target = || self.type_name(header.size_or_type, depth + 1);
        let named = |keyword: &str| match self.string(header.name) {
            "" => format!("{keyword}{{…}}"),
            name => format!("{keyword}{name}"),
        };
        match header.kind() {
            KIND_PTR => {
                let target = target();
                let separator = if target.ends_with('*') { "" } else { " " };
                format!("{target}{separator}*")
            }
            KIND_STRUCT => named("struct "),
            KIND_UNION => named("union "),
            KIND_ENUM | KIND_ENUM64 => named("enum "),
            KIND_FWD => named(if header.has_bitfields() { "union " } else { "struct " }),
            KIND_CONST => qualified("const", &target()),
            KIND_VOLATILE => qualified("volatile", &target()),
            KIND_RESTRICT | KIND_TYPE_TAG => target(),
            KIND_ARRAY => "array".to_owned(),
            KIND_FUNC_PROTO => "function".to_owned(),
            _ => named(""),
        }
    }
}

fn qualified(qualifier: &str, target: &str) -> String {
    if target.ends_with('*') { format!("{target}{qualifier}") } else { format!("{qualifier} {target}") }
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WANTED: Wanted<'_> =
        Wanted { structs: &["task_struct"], functions: &["should_failslab"], enumerators: &["___GFP_"] };

    #[test]
    fn refused() {
        assert!(Btf::parse(vec![], WANTED).is_err());
        assert!(Btf::parse(vec![0; 100], WANTED).is_err());
    }

    /// A header, `types` and a string section that holds one zero byte.
    fn wrap(types: &[u8]) -> Vec<u8> {
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [24u32, 0, types.len() as u32, types.len() as u32, 1] {
            data.extend(word.to_le_bytes());
        }
        data.extend(types);
        data.push(0);
        data
    }

    proptest! {
        #[test]
        fn never_panics(types in prop::collection::vec(0u8..20, 0..200)) {
            if let Ok(btf) = Btf::parse(wrap(&types), WANTED) {
                let _ = btf.member_offset("task_struct", "flags");
                let _ = btf.prototype("should_failslab");
                let _ = btf.enumerators().count();
            }
        }
    }
}
