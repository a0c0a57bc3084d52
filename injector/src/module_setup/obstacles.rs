//! What keeps the module from being built for a kernel, or loaded into this one.

use std::{fmt, fs, path::Path};

use super::{KernelTree, SetupError};
use crate::kernel::KernelFiles;

/// The options that the module can't do without.
const OPTIONS: [(&str, &str); 5] = [
    ("CONFIG_MODULES", "which modules need"),
    ("CONFIG_KPROBES", "by which the module finds functions"),
    ("CONFIG_DYNAMIC_FTRACE_WITH_ARGS", "by which the module hooks functions"),
    ("CONFIG_BPF_EVENTS", "by which the module asks eBPF programs"),
    ("CONFIG_DEBUG_INFO_BTF", "by which the injector knows the kernel's types"),
];

/// Ends a signed module (`MODULE_SIG_STRING`, include/linux/module_signature.h).
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// What forbids to load a module that is not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The kernel is locked down, as with Secure Boot; the mode.
    Lockdown(String),
    /// It takes only signed modules.
    Enforced,
}

impl Obstacle {
    /// What to do.
    pub const REMEDY: &'static str = "sign it: docs/guide.md, \"Signed modules\"";

    /// Why, without a remedy.
    #[must_use]
    pub fn reason(&self) -> String {
        let rule = match self {
            Self::Lockdown(mode) => format!("the kernel is locked down ({mode}), as it is with Secure Boot,"),
            Self::Enforced => "module signatures are enforced (module.sig_enforce)".to_owned(),
        };
        format!("{rule} and the module is not signed with a key that the kernel knows")
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason(), Self::REMEDY)
    }
}

/// The first option that the kernel lacks.
pub fn to_building(kernel: &KernelTree) -> Result<(), SetupError> {
    let KernelTree { release, tree } = kernel;
    let read = |name: &str| fs::read_to_string(tree.join(name));
    // Without the options, the compiler says what is missing.
    let Ok(options) = read("include/config/auto.conf").or_else(|_| read(".config")) else { return Ok(()) };
    match lacking(&options) {
        Some((option, why)) => Err(SetupError::Option { release: release.clone(), option, why }),
        None => Ok(()),
    }
}

fn lacking(options: &str) -> Option<(&'static str, &'static str)> {
    OPTIONS
        .into_iter()
        .find(|(option, _)| !options.lines().any(|line| line.strip_prefix(option).is_some_and(|value| value == "=y")))
}

/// Whether the running kernel would refuse this module.
#[must_use]
pub fn to_loading(files: &KernelFiles, module: &Path) -> Option<Obstacle> {
    // Whether the kernel knows the key, only the kernel says; and a compressed file shows no signature.
    if module.extension().is_none_or(|extension| extension != "ko") || is_signed(module) {
        return None;
    }
    let lockdown = files.read_text("sys/kernel/security/lockdown").unwrap_or_default();
    let mode = lockdown.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0));
    if let Some(mode) = mode.filter(|mode| *mode != "none") {
        return Some(Obstacle::Lockdown(mode.to_owned()));
    }
    let enforced = files.read_text("sys/module/module/parameters/sig_enforce").unwrap_or_default();
    enforced.starts_with('Y').then_some(Obstacle::Enforced)
}

fn is_signed(module: &Path) -> bool {
    fs::read(module).is_ok_and(|bytes| bytes.ends_with(SIGNED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_needed() {
        let all: String = OPTIONS.iter().map(|(option, _)| format!("{option}=y\n")).collect();
        assert_eq!(lacking(&all), None);
        for (option, why) in OPTIONS {
            assert_eq!(lacking(&all.replace(&format!("{option}=y\n"), "")), Some((option, why)));
        }
        assert_eq!(
            lacking(&all.replace("CONFIG_BPF_EVENTS=y", "CONFIG_BPF_EVENTS_X=y")).unwrap().0,
            "CONFIG_BPF_EVENTS"
        );
    }

    #[test]
    fn an_unsigned_module_is_refused_before_it_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        let files = KernelFiles::new(root.path());
        let module = root.path().join("m.ko");
        for directory in ["sys/kernel/security", "sys/module/module/parameters"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        fs::write(&module, "\x7fELF").unwrap();
        assert_eq!(to_loading(&files, &module), None);
        fs::write(root.path().join("sys/module/module/parameters/sig_enforce"), "Y\n").unwrap();
        assert_eq!(to_loading(&files, &module), Some(Obstacle::Enforced));
        fs::write(root.path().join("sys/kernel/security/lockdown"), "none [integrity] confidentiality\n").unwrap();
        let obstacle = to_loading(&files, &module).unwrap();
        assert_eq!(obstacle, Obstacle::Lockdown("integrity".to_owned()));
        assert!(obstacle.to_string().contains("(integrity)") && obstacle.to_string().contains("Signed modules"));
        fs::write(&module, [b"\x7fELF", SIGNED].concat()).unwrap();
        assert_eq!(to_loading(&files, &module), None);
        fs::write(&module, "").unwrap();
        assert_eq!(to_loading(&files, &root.path().join("m.ko.xz")), None);
        fs::write(root.path().join("sys/kernel/security/lockdown"), "[none] integrity confidentiality\n").unwrap();
        fs::write(root.path().join("sys/module/module/parameters/sig_enforce"), "N\n").unwrap();
        assert_eq!(to_loading(&files, &module), None);
    }
}
