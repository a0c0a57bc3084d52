//! Finds an eBPF toolchain and compiles the `injector-ebpf` crate with it.
//!
//! Used by `injector`'s build script and by `cargo xtask`, so it has no dependencies. Two toolchains will do:
//! Debian's `rustc-web` with `libstd-rust-web-dev-bpf` (a stable compiler with a prebuilt `core` for eBPF), or
//! rustup's nightly with `rust-src`. Both need a `bpf-linker` that is built against the compiler's LLVM.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The eBPF target, little endian.
pub const TARGET: &str = "bpfel-unknown-none";
/// The command that a message about a missing toolchain names.
pub const SETUP_COMMAND: &str = "cargo xtask setup";

/// Where the compiler comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Compiler {
    /// A rustc with a prebuilt `core` for the target.
    Prebuilt(PathBuf),
    /// rustup's nightly, which builds `core` from rust-src.
    Nightly,
}

/// Everything that compiling the eBPF crate needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
}

/// A part of the toolchain that was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No compiler with a `core` for eBPF.
    Compiler,
    /// No bpf-linker.
    Linker,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Compiler => {
                "a Rust compiler for eBPF (Debian: rustc-web and libstd-rust-web-dev-bpf; or rustup's nightly with rust-src)"
            }
            Self::Linker => "bpf-linker",
        };
        write!(f, "the eBPF toolchain is not complete: {what} was not found; set it up with: {SETUP_COMMAND}")
    }
}

impl std::error::Error for Missing {}

/// Why the object could not be compiled.
#[derive(Debug)]
pub enum BuildError {
    /// cargo could not be started.
    Spawn(std::io::Error),
    /// cargo failed; what it printed.
    Cargo(String),
    /// cargo ended well, but the object is not where it belongs.
    NoObject(PathBuf),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(error) => write!(f, "can't start cargo for the eBPF crate: {error}"),
            Self::Cargo(output) => write!(f, "the eBPF crate does not compile:\n{output}"),
            Self::NoObject(path) => write!(f, "cargo left no eBPF object at {}", path.display()),
        }
    }
}

impl std::error::Error for BuildError {}

/// The project's cache, outside every checkout: `$XDG_CACHE_HOME/injector`, or `~/.cache/injector`.
#[must_use]
pub fn cache_dir() -> PathBuf {
    let home = || env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from).join(".cache");
    env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map_or_else(home, PathBuf::from).join("injector")
}

/// Where `cargo install --root` puts the tools that the project builds for itself.
#[must_use]
pub fn tools_dir() -> PathBuf {
    cache_dir().join("tools")
}

impl Toolchain {
    /// Looks for the toolchain: Debian's compiler first, since it needs no nightly.
    ///
    /// # Errors
    /// Says which part is missing.
    pub fn find() -> Result<Self, Missing> {
        let compiler = find_compiler().ok_or(Missing::Compiler)?;
        let linker = find_linker().ok_or(Missing::Linker)?;
        Ok(Self { compiler, linker })
    }

    /// Compiles the eBPF crate of the workspace and returns the path of the object. cargo gets a target
    /// directory of its own below `out`, since the outer cargo holds the lock of the usual one.
    ///
    /// # Errors
    /// With everything that cargo printed, when it does not compile.
    pub fn build_object(&self, workspace: &Path, out: &Path) -> Result<PathBuf, BuildError> {
        let target_dir = out.join("ebpf-target");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What the outer cargo or rustup exported is about the host build.
        for (name, _) in env::vars_os() {
            let outer = name.to_str().is_some_and(|name| {
                [
                    "CARGO_",
                    "RUSTC",
                    "RUSTFLAGS",
                    "RUSTUP_TOOLCHAIN",
                    "RUST_RECURSION_COUNT",
                    "TARGET",
                    "PROFILE",
                    "DEBUG",
                    "OPT_LEVEL",
                ]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                    && !["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&name)
                    && !name.starts_with("CARGO_REGISTRIES")
                    && !name.starts_with("CARGO_SOURCE")
            });
            if outer {
                cargo.env_remove(name);
            }
        }
        match &self.compiler {
            Compiler::Prebuilt(rustc) => {
                // aya-ebpf uses unstable features; a stable compiler takes them for this one call.
                cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            }
            Compiler::Nightly => {
                cargo = {
                    let mut rustup = Command::new("rustup");
                    rustup.args(["run", "nightly", "cargo"]);
                    rustup
                };
                cargo.env_remove("RUSTC").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
            }
        }
        let mut flags = OsString::from("-C\x1flinker=");
        flags.push(&self.linker);
        // v3 has the atomics that return a value and 32-bit jumps; kernels have it since 5.12.
        flags.push("\x1f-C\x1flink-arg=--btf\x1f-C\x1ftarget-cpu=v3\x1f-C\x1fdebuginfo=2\x1f--cfg\x1fbpf_target_arch=\"x86_64\"");
        cargo
            .current_dir(workspace)
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .args(["build", "--package", "injector-ebpf", "--profile", "ebpf", "--target", TARGET, "--target-dir"])
            .arg(&target_dir);
        if matches!(self.compiler, Compiler::Nightly) {
            cargo.args(["-Z", "build-std=core"]);
        }
        let output = cargo.output().map_err(BuildError::Spawn)?;
        if !output.status.success() {
            return Err(BuildError::Cargo(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let object = target_dir.join(TARGET).join("ebpf").join("injector");
        if !object.is_file() {
            return Err(BuildError::NoObject(object));
        }
        Ok(without_dwarf(&object).unwrap_or(object))
    }
}

/// A copy without DWARF, which the linker needs to make BTF and the loader would parse at every start: six sevenths of
/// the object. None, and no harm done, where there is no LLVM tool for it.
fn without_dwarf(object: &Path) -> Option<PathBuf> {
    let stripped = object.with_extension("stripped");
    let tools = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("bin/llvm-objcopy"));
    let tool = tools.filter(|path| path.is_file()).max().unwrap_or_else(|| PathBuf::from("llvm-objcopy"));
    let status = Command::new(tool).arg("--strip-debug").args([object, &stripped]).status().ok()?;
    status.success().then_some(stripped)
}

fn find_compiler() -> Option<Compiler> {
    let has_core = |sysroot: &Path| {
        fs::read_dir(sysroot.join("lib/rustlib").join(TARGET).join("lib")).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libcore-")))
        })
    };
    if has_core(Path::new("/usr")) && Path::new("/usr/bin/rustc").is_file() {
        return Some(Compiler::Prebuilt(PathBuf::from("/usr/bin/rustc")));
    }
    let output = Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    sysroot.join("lib/rustlib/src/rust/library/core").is_dir().then_some(Compiler::Nightly)
}

fn find_linker() -> Option<PathBuf> {
    let own = tools_dir().join("bin/bpf-linker");
    if own.is_file() {
        return Some(own);
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join("bpf-linker")).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_part_is_one_line_that_names_the_command() {
        for missing in [Missing::Compiler, Missing::Linker] {
            let message = missing.to_string();
            assert_eq!(message.lines().count(), 1);
            assert!(message.contains(SETUP_COMMAND));
        }
    }
}
