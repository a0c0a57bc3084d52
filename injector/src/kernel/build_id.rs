//! Which build of the kernel this is: what its debug information must have been made with.

use super::KernelFiles;

/// The type of the note that holds the build id (`NT_GNU_BUILD_ID`, include/uapi/linux/elf.h).
const BUILD_ID: u32 = 3;

impl KernelFiles {
    /// The kernel's GNU build id, hexadecimal; none where it has none, or sysfs is not there.
    #[must_use]
    pub fn build_id(&self) -> Option<String> {
        self.read("sys/kernel/notes").ok().and_then(|notes| build_id(&notes))
    }
}

/// The build id among ELF notes: each a header of three words, a name and a text, both padded to words.
fn build_id(mut notes: &[u8]) -> Option<String> {
    loop {
        let (header, rest) = notes.split_at_checked(12)?;
        let word = |i: usize| header.get(i..i + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let (name_len, text_len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let (name, rest) = rest.split_at_checked(name_len.checked_next_multiple_of(4)?)?;
        let text = rest.get(..text_len)?;
        if kind == BUILD_ID && name.starts_with(b"GNU\0") {
            return Some(text.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = rest.get(text_len.checked_next_multiple_of(4)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: u32, name: &[u8], text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name.len() as u32, text.len() as u32, kind] {
            bytes.extend(word.to_ne_bytes());
        }
        for part in [name, text] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_build_id_among_notes() {
        let notes = [note(6, b"Xen\0", b"2.6"), note(3, b"GNU\0", &[0xab, 0x01]), note(1, b"Linux\0", b"")].concat();
        assert_eq!(build_id(&notes).as_deref(), Some("ab01"));
        assert_eq!(build_id(&note(1, b"Linux\0", b"")), None);
        assert_eq!(build_id(&notes[..20]), None);
        assert_eq!(build_id(&[0xff; 40]), None);
    }
}
