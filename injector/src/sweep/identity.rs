//! What makes a kernel the same kernel, and a workload the same workload: a journal is only good for both.

use std::{ffi::OsString, fs, io::Read as _, path::Path};

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use crate::{
    journal::record::{Kernel, Workload},
    kernel::{KernelError, KernelFiles},
};

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
        build_id: files.build_id(),
        config,
    })
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
        name: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
