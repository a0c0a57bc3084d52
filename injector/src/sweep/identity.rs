//! What makes a kernel the same kernel, and a workload the same workload: a journal is only good for both.

use std::{ffi::OsString, fs, io::Read as _, path::Path};

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use super::journal::record::{Kernel, Workload};
use crate::kernel::{KernelError, KernelFiles};

/// The type of the note that holds the build id (`NT_GNU_BUILD_ID`, include/uapi/linux/elf.h).
const BUILD_ID: u32 = 3;

/// Asks the kernel who it is.
///
/// # Errors
/// proc is not there.
pub fn kernel(files: &KernelFiles) -> Result<Kernel, KernelError> {
    let config = files.read("proc/config.gz").ok().and_then(|bytes| {
        let mut text = Vec::new();
        GzDecoder::new(&*bytes).read_to_end(&mut text).ok()?;
        Some(hex(&Sha256::digest(&text)))
    });
    Ok(Kernel {
        release: files.release()?.as_str().to_owned(),
        version: files.read_text("proc/sys/kernel/version")?.trim().to_owned(),
        build_id: files.read("sys/kernel/notes").ok().and_then(|notes| build_id(&notes)),
        config,
    })
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
            return Some(hex(text));
        }
        notes = rest.get(text_len.checked_next_multiple_of(4)?..)?;
    }
}

/// Describes a workload. Files that its command line names are part of it.
#[must_use]
pub fn workload(command: &[OsString], setup: Option<&str>, cleanup: Option<&str>) -> Workload {
    let mut digest = Sha256::new();
    let words = [setup, cleanup].into_iter().flatten().flat_map(str::split_whitespace).map(OsString::from);
    for word in command.iter().cloned().chain(words) {
        let path = Path::new(&word);
        // A program found by PATH belongs to the machine; a large file is data, or a program that nobody edits.
        let small = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() < 1 << 20);
        if let Some(content) = small.then(|| fs::read(path).ok()).flatten() {
            digest.update((content.len() as u64).to_le_bytes());
            digest.update(&content);
        }
    }
    Workload {
        command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        setup: setup.map(str::to_owned),
        cleanup: cleanup.map(str::to_owned),
        digest: hex(&digest.finalize()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

    #[test]
    fn an_edited_script_is_another_workload() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("w.sh");
        let command = [OsString::from("sh"), script.clone().into_os_string()];
        fs::write(&script, "true").unwrap();
        let one = workload(&command, None, None);
        fs::write(&script, "false").unwrap();
        let two = workload(&command, None, None);
        assert_ne!(one.digest, two.digest);
        assert_eq!(one.command, two.command);
    }
}
