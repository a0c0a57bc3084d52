//! The same measurements on this machine's own kernel, by its time.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{module, process, static_build, vm};

/// This machine can't be measured.
#[derive(Debug)]
pub struct HostLacks {
    release: String,
    what: Vec<String>,
}

impl fmt::Display for HostLacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bench --host can't measure this machine's kernel {}: {}; without --host a guest is measured",
            self.release,
            self.what.join(", ")
        )
    }
}

impl std::error::Error for HostLacks {}

/// What a kernel must have, and how one sees it: a file, and what must be in it.
const NEEDS: [(&str, &str, &str); 4] = [
    ("/sys/kernel/btf/vmlinux", "", "no BTF (CONFIG_DEBUG_INFO_BTF)"),
    ("/sys/bus/event_source/devices/kprobe/type", "", "no kprobes for eBPF (CONFIG_KPROBE_EVENTS)"),
    (INJECTABLE, "should_failslab", "should_failslab can't be overridden (CONFIG_FAILSLAB)"),
    (INJECTABLE, "should_fail_alloc_page", "should_fail_alloc_page can't be overridden (CONFIG_FAIL_PAGE_ALLOC)"),
];

const INJECTABLE: &str = "/sys/kernel/debug/error_injection/list";

/// A machine with all that it takes.
pub struct Host {
    release: String,
    injector: PathBuf,
    bench: PathBuf,
    module: PathBuf,
}

impl Host {
    /// Looks at the machine, then builds. Nothing is built where something is missing.
    pub fn find() -> Result<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
        let release = release.trim().to_owned();
        let tree = Path::new("/lib/modules").join(&release).join("build");
        let what = missing(&tree);
        if !what.is_empty() {
            bail!(HostLacks { release, what });
        }
        let injector = vm::injector()?;
        let check = Command::new(&injector).arg("check").stdin(Stdio::null()).output();
        let check = check.with_context(|| format!("can't start {}", injector.display()))?;
        if !check.status.success() {
            eprint!("{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
            bail!(HostLacks { release, what: vec!["injector check says no, see above".to_owned()] });
        }
        let kept = process::target_dir().join("bench-host").join(&release);
        fs::create_dir_all(&kept).with_context(|| format!("can't make {}", kept.display()))?;
        let modules = module::build_for(&tree, &fs::canonicalize(&kept)?)?;
        let module = modules.into_iter().next().context("there is no test module")?;
        let bench = static_build::binary("injector-tests", "injector-bench")?;
        Ok(Self { release, injector, bench, module })
    }

    /// For headings.
    pub fn name(&self) -> String {
        format!("{} of this machine", self.release)
    }

    /// Measures a part.
    pub fn measure(&self, part: &str, only: Option<&str>) -> Result<Vec<Value>> {
        let mut bench = Command::new(&self.bench);
        bench.arg(part).args(only).env("INJECTOR_BENCH_CLOCK", "wall");
        bench.env("INJECTOR_TEST_PROGRAM", &self.injector).env("INJECTOR_TEST_MODULE", &self.module);
        bench.env("INJECTOR_TEST_WORKLOADS", process::workspace().join("tests/workloads"));
        super::rows(&process::output(&mut bench)?)
    }
}

/// All that is missing, in a few words each.
fn missing(tree: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("not root".to_owned());
    }
    for (file, word, what) in NEEDS {
        let has_word = |text: String| text.lines().any(|line| line.split('\t').next() == Some(word));
        let there = if word.is_empty() {
            Path::new(file).exists()
        } else {
            // That there is no list is told of below.
            fs::read_to_string(file).map_or(true, has_word)
        };
        if !there {
            missing.push(what.to_owned());
        }
    }
    if !Path::new(INJECTABLE).exists() {
        missing.push(format!("no {INJECTABLE} (CONFIG_FUNCTION_ERROR_INJECTION, debugfs mounted)"));
    }
    if !tree.join("Makefile").is_file() {
        missing.push(format!("no headers of the kernel in {}", tree.display()));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_are_not_there_are_missing() {
        let nowhere = Path::new("/nonexistent/build");
        assert!(missing(nowhere).iter().any(|what| what.contains("/nonexistent/build")));
    }

    #[test]
    fn what_is_missing_is_one_line() {
        let lacks = HostLacks { release: "1.2".to_owned(), what: vec!["a".to_owned(), "b".to_owned()] };
        assert!(lacks.to_string().starts_with("bench --host can't measure this machine's kernel 1.2: a, b;"));
        assert!(!lacks.to_string().contains('\n'));
    }
}
