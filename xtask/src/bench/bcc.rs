//! bcc's inject for the guest, where this machine has it: it is Python, and compiles against the kernel's headers.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use injector_guest::Initramfs;
use injector_guest::root::{self, Image};

use crate::kernel::Kernel;
use crate::process::find_program;

/// Debian's name of it, in bpfcc-tools.
const INJECT: &str = "inject-bpfcc";
/// The interpreter that it names, for which Debian has the module bcc.
const PYTHON: &str = "/usr/bin/python3";
/// Of its modules those that are not part of Python.
const MODULES: [&str; 2] = ["/usr/lib/python3/dist-packages/bcc", "/usr/lib/python3/dist-packages/netaddr"];
/// Libraries that it opens at run time.
const LIBRARIES: [&str; 3] = ["libbcc.so.0", "libffi.so.8", "librt.so.1"];
const LIBRARY_DIRECTORY: &str = "/usr/lib/x86_64-linux-gnu";

/// All of it, on top of a root; nothing, and a word about it, where it is not installed.
pub fn overlay(kernel: &Kernel) -> Result<Option<Image>> {
    let Some(inject) = find_program(INJECT) else {
        eprintln!("bench: no {INJECT} here (Debian: bpfcc-tools): its rows are left out");
        return Ok(None);
    };
    // `python3` is a link to the version whose library it is.
    let python = fs::canonicalize(PYTHON).with_context(|| format!("{INJECT} without {PYTHON}"))?;
    let version = python.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut overlay = Initramfs::overlay();
    overlay.program(&python, PYTHON)?;
    root::add(&mut overlay, &inject, "/usr/sbin/inject-bpfcc")?;
    let library = format!("/usr/lib/{version}");
    for directory in std::iter::once(library.as_str()).chain(MODULES) {
        overlay.tree(Path::new(directory), directory)?;
    }
    for library in LIBRARIES {
        overlay.library(&Path::new(LIBRARY_DIRECTORY).join(library))?;
    }
    let tree = kernel.tree();
    let release = tree.join("include/config/kernel.release");
    let release = fs::read_to_string(&release).with_context(|| format!("can't read {}", release.display()))?;
    for headers in ["include", "arch/x86/include"] {
        overlay.tree(&tree.join(headers), &format!("/lib/modules/{}/build/{headers}", release.trim()))?;
    }
    Ok(Some(Image::new(&overlay)?))
}
