//! Which Debian packages each part of the project needs.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::find_program;

/// A part of the project that needs packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Compiling the eBPF programs.
    Ebpf,
    /// Taking files out of a kernel's source.
    Source,
    /// Building a guest kernel; its source has no package here (see `kernel::archive`).
    Kernel,
    /// Building a module for a guest kernel that is in the cache.
    Module,
    /// Building a module for a distribution's kernel from its headers.
    Headers,
    /// Booting a guest, and the programs in it.
    Guest,
    /// What only guest tests need.
    GuestTests,
    /// Making packages.
    Dist,
}

/// What tells that a package is installed where dpkg can't be asked.
#[derive(Debug, Clone, Copy)]
enum Sign {
    Program(&'static str),
    File(&'static str),
}

use Sign::{File, Program};

const EBPF: &[(&str, Sign)] = &[
    ("rustc-web", File("/usr/bin/rustc")),
    ("libstd-rust-web-dev-bpf", File("/usr/lib/rustlib/bpfel-unknown-none/lib")),
    // bpf-linker is built against the LLVM of the compiler above.
    ("llvm-22-dev", Program("llvm-config-22")),
    ("libpolly-22-dev", File("/usr/lib/llvm-22/lib/libPolly.a")),
    ("zlib1g-dev", File("/usr/include/zlib.h")),
    ("libzstd-dev", File("/usr/include/zstd.h")),
    ("gcc", Program("gcc")),
    ("g++", Program("g++")),
    ("libc6-dev", File("/usr/include/stdio.h")),
    ("make", Program("make")),
];

const SOURCE: &[(&str, Sign)] = &[("xz-utils", Program("xz"))];

const KERNEL: &[(&str, Sign)] = &[
    ("flex", Program("flex")),
    ("bison", Program("bison")),
    ("bc", Program("bc")),
    ("libelf-dev", File("/usr/include/libelf.h")),
    ("libssl-dev", File("/usr/include/openssl/ssl.h")),
    ("dwarves", Program("pahole")),
    ("cpio", Program("cpio")),
    ("kmod", Program("depmod")),
    ("perl", Program("perl")),
    ("xz-utils", Program("xz")),
    ("make", Program("make")),
    ("gcc", Program("gcc")),
    ("libc6-dev", File("/usr/include/stdio.h")),
];

const MODULE: &[(&str, Sign)] = &[
    ("make", Program("make")),
    ("gcc", Program("gcc")),
    // Makes the module's BTF.
    ("dwarves", Program("pahole")),
    // What the kernel's own tools are linked with.
    ("libelf1", File("/usr/lib/x86_64-linux-gnu/libelf.so.1")),
];

const HEADERS: &[(&str, Sign)] = &[
    ("make", Program("make")),
    ("gcc", Program("gcc")),
    ("libelf1", File("/usr/lib/x86_64-linux-gnu/libelf.so.1")),
    // Makes the index of a kernel's modules.
    ("kmod", Program("depmod")),
];

const GUEST: &[(&str, Sign)] = &[
    ("qemu-system-x86", Program("qemu-system-x86_64")),
    ("seabios", File("/usr/share/seabios/bios.bin")),
    ("busybox-static", Program("busybox")),
    ("e2fsprogs", Program("mkfs.ext4")),
    ("xfsprogs", Program("mkfs.xfs")),
    ("btrfs-progs", Program("mkfs.btrfs")),
    ("nfs-kernel-server", Program("rpc.nfsd")),
    ("nfs-common", Program("mount.nfs")),
    ("rpcbind", Program("rpcbind")),
    ("kmod", Program("kmod")),
    ("mount", Program("mount")),
    ("util-linux", Program("setsid")),
    ("iproute2", Program("ip")),
    ("attr", Program("setfattr")),
    // Static programs for the guest are linked on this machine.
    ("gcc", Program("gcc")),
    ("libc6-dev", File("/usr/include/stdio.h")),
];

const GUEST_TESTS: &[(&str, Sign)] = &[("bpftrace", Program("bpftrace"))];

const DIST: &[(&str, Sign)] = &[
    // Static programs are linked on this machine, and so is cargo-deb.
    ("gcc", Program("gcc")),
    ("libc6-dev", File("/usr/include/stdio.h")),
];

impl Group {
    fn needs(self) -> &'static [(&'static str, Sign)] {
        match self {
            Group::Ebpf => EBPF,
            Group::Source => SOURCE,
            Group::Kernel => KERNEL,
            Group::Module => MODULE,
            Group::Headers => HEADERS,
            Group::Guest => GUEST,
            Group::GuestTests => GUEST_TESTS,
            Group::Dist => DIST,
        }
    }

    /// The packages of this group that are not installed.
    pub fn missing(self) -> Vec<String> {
        let dpkg = find_program("dpkg-query").is_some();
        let mut missing: Vec<String> = self
            .needs()
            .iter()
            .filter(|(name, sign)| !present(*sign) || (dpkg && matches!(sign, File(_)) && !installed(name)))
            .map(|&(name, _)| name.to_owned())
            .collect();
        missing.dedup();
        missing
    }
}

/// A program is wanted whatever package it comes from; a file must be where it is looked for.
fn present(sign: Sign) -> bool {
    match sign {
        Program(name) => find_program(name).is_some(),
        File(path) => Path::new(path).exists(),
    }
}

fn installed(package: &str) -> bool {
    let status =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).stderr(Stdio::null()).output();
    status.is_ok_and(|output| output.stdout == b"installed")
}

/// The version of an installed package.
pub fn version(package: &str) -> Option<String> {
    if !installed(package) {
        return None;
    }
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_names_a_package_twice() {
        let all =
            [Group::Ebpf, Group::Guest, Group::GuestTests, Group::Module, Group::Headers, Group::Kernel, Group::Dist];
        for group in all {
            let mut names: Vec<_> = group.needs().iter().map(|&(name, _)| name).collect();
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all, "{group:?}");
        }
    }
}
