//! The module injector_hooks: whether it is loaded, what it can hook here, and loading it where it is installed.
//!
//! Its sources are in module/ at the top of the repository. It makes hooks on kernels that don't let eBPF programs override
//! calls.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use injector_common::hooks::MODULE_PROTOCOL;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::btf::Btf;
use super::{KernelFiles, Release};
use crate::plan::Hook;

/// Its name.
pub const NAME: &str = "injector_hooks";
/// Where the kernel tells about it, from the root.
const DIRECTORY: &str = "sys/module/injector_hooks";
/// 0: no callback of ftrace is called.
const FTRACE: &str = "proc/sys/kernel/ftrace_enabled";
/// Below /lib/modules/RELEASE: where modules are installed that are not the kernel's own.
const INSTALLED: [&str; 3] = ["updates", "updates/dkms", "extra"];

/// The module as it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HooksModule {
    /// Version of its protocol.
    pub version: String,
    /// What it hooks.
    pub functions: Vec<HookedFunction>,
    /// Hooks that it can't make here, each with the function that the kernel lacks; empty: it knows none for this kernel.
    pub missing: Vec<(String, String)>,
    /// ftrace is off, and with it all of its hooks.
    pub ftrace_off: bool,
}

/// A function that the module hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookedFunction {
    /// The name of the hook.
    pub hook: String,
    /// Its symbol.
    pub function: String,
    /// Its prototype, as the module relies on it.
    pub prototype: String,
    /// The prototype that it has here, if that is another one.
    pub other: Option<String>,
}

/// Why the module can't make a hook.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModuleError {
    /// It is not loaded.
    #[error("the module {NAME} is not loaded; build and install it: injector module install")]
    NotLoaded,
    /// Another one than this program knows.
    #[error(
        "the module {NAME} that is loaded has version {found}, and this injector needs version {MODULE_PROTOCOL}; unload it (rmmod {NAME}), and install the right one: injector module install"
    )]
    Version {
        /// Its version.
        found: String,
    },
    /// Its callbacks are not called.
    #[error("ftrace is off, and the module {NAME} hooks functions by it; sysctl kernel.ftrace_enabled=1")]
    FtraceOff,
    /// It does not know this kernel.
    #[error("the module {NAME} knows no function for the hook {hook} in this kernel; leave it out (--hook)")]
    Unknown {
        /// The hook.
        hook: Hook,
    },
    /// The kernel is not as it expects.
    #[error(
        "this kernel has no function {function}, which the module {NAME} needs for the hook {hook}; leave it out (--hook)"
    )]
    NoFunction {
        /// The hook.
        hook: Hook,
        /// The function.
        function: String,
    },
    /// Arguments are not where it expects them.
    #[error(
        "the module {NAME} knows `{known}`, but here it is `{found}`; install the module for this kernel (injector module install), or leave out the hook {hook} (--hook)"
    )]
    Prototype {
        /// The hook.
        hook: Hook,
        /// What the module expects.
        known: String,
        /// What the kernel has.
        found: String,
    },
}

/// Why the module could not be loaded, though it is installed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel takes only modules that are signed with a key that it knows.
    #[error(
        "{path}: this kernel takes only signed modules (Secure Boot, lockdown, or module.sig_enforce); sign it with a key that the kernel knows: docs/guide.md, \"Signed modules\"",
        path = .0.display()
    )]
    Signature(PathBuf),
    /// It was built for another kernel.
    #[error("{path} is not for this kernel; build it anew: injector module install", path = .0.display())]
    OtherKernel(PathBuf),
    /// Another reason of the kernel.
    #[error("{path} can't be loaded: {error}; the kernel's log may say more (dmesg)", path = .path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// modprobe has not loaded it.
    #[error("modprobe {NAME} failed: {0}")]
    Modprobe(String),
}

impl HooksModule {
    /// The module, if it is loaded.
    #[must_use]
    pub fn read(files: &KernelFiles) -> Option<Self> {
        let text = |file: &str| files.read_text(Path::new(DIRECTORY).join(file)).ok();
        // Something of that name that is not this module has no version.
        let version = text("version").unwrap_or_default().trim().to_owned();
        let (functions, missing) = parse(&text("parameters/hooks").unwrap_or_default());
        let ftrace_off = files.read_text(FTRACE).is_ok_and(|text| text.trim() == "0");
        files.exists(DIRECTORY).then_some(Self { version, functions, missing, ftrace_off })
    }

    /// The symbols of what it hooks.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().map(|function| function.function.as_str())
    }

    /// Compares the prototypes with this kernel's. What its types don't have, the module's compiler has seen.
    #[must_use]
    pub fn compared(mut self, btf: &Btf) -> Self {
        for function in &mut self.functions {
            let here = btf.prototype(&function.function);
            function.other = here.filter(|here| normal(here) != normal(&function.prototype));
        }
        self
    }

    /// The functions of a hook.
    pub fn of(&self, hook: Hook) -> impl Iterator<Item = &HookedFunction> {
        self.functions.iter().filter(move |function| function.hook == hook.name())
    }

    /// Whether it can make a hook here.
    ///
    /// # Errors
    /// It can't.
    pub fn serves(&self, hook: Hook) -> Result<(), ModuleError> {
        let Self { version, missing, ftrace_off, functions: _ } = self;
        if *version != MODULE_PROTOCOL.to_string() {
            return Err(ModuleError::Version { found: version.clone() });
        }
        if *ftrace_off {
            return Err(ModuleError::FtraceOff);
        }
        if self.of(hook).next().is_none() {
            let lacks = missing.iter().find(|(name, function)| name == hook.name() && !function.is_empty());
            return Err(match lacks {
                Some((_, function)) => ModuleError::NoFunction { hook, function: function.clone() },
                None => ModuleError::Unknown { hook },
            });
        }
        match self.of(hook).find_map(|function| Some((function, function.other.clone()?))) {
            Some((function, found)) => Err(ModuleError::Prototype { hook, known: function.prototype.clone(), found }),
            None => Ok(()),
        }
    }
}

/// Whether the module, as far as it is loaded, can make a hook.
///
/// # Errors
/// It can't.
pub fn serves(module: Option<&HooksModule>, hook: Hook) -> Result<(), ModuleError> {
    module.ok_or(ModuleError::NotLoaded)?.serves(hook)
}

/// How often the kernel counts the module as in use; `None`: it is not loaded.
#[must_use]
pub fn users(files: &KernelFiles) -> Option<u32> {
    files.read_text(Path::new(DIRECTORY).join("refcnt")).ok()?.trim().parse().ok()
}

/// How many calls of a hook the module could not ask about since it was loaded.
#[must_use]
pub fn missed(files: &KernelFiles, hook: Hook) -> u64 {
    let text = files.read_text(Path::new(DIRECTORY).join("parameters/missed")).unwrap_or_default();
    let count = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        (name == hook.name()).then(|| count.parse().ok())?
    };
    text.lines().find_map(count).unwrap_or_default()
}

/// Lines are `slab kmem_cache_alloc_noprof PROTOTYPE`, or `percpu missing pcpu_alloc`.
fn parse(text: &str) -> (Vec<HookedFunction>, Vec<(String, String)>) {
    let (mut functions, mut missing) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.splitn(3, ' ').map(|word| word.trim().to_owned());
        let (Some(hook), Some(function), Some(rest)) = (words.next(), words.next(), words.next()) else { continue };
        if function == "missing" {
            missing.push((hook, rest));
        } else {
            functions.push(HookedFunction { hook, function, prototype: rest, other: None });
        }
    }
    (functions, missing)
}

/// A prototype without blanks and with one word for each type: C and BTF write both differently.
fn normal(prototype: &str) -> String {
    let words = prototype.replace("long unsigned int", "unsigned long");
    words.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The module's file, if it is installed for a kernel.
#[must_use]
pub fn installed(files: &KernelFiles, release: &Release) -> Option<PathBuf> {
    let modules = files.path("lib/modules").join(release.as_str());
    INSTALLED.iter().find_map(|directory| {
        let entries = fs::read_dir(modules.join(directory)).ok()?;
        let is_it = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix(NAME).is_some_and(|rest| rest == ".ko" || rest.starts_with(".ko."))
        };
        entries.flatten().map(|entry| entry.path()).find(is_it)
    })
}

/// Loads the module from its file. What is compressed, modprobe loads.
///
/// # Errors
/// The kernel does not take it.
pub fn load(path: &Path) -> Result<(), LoadError> {
    if path.extension().is_none_or(|extension| extension != "ko") {
        return modprobe();
    }
    let kernel = |error| LoadError::Kernel { path: path.to_owned(), error };
    let file = File::open(path).map_err(kernel)?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
        Err(nix::Error::EKEYREJECTED | nix::Error::ENOKEY | nix::Error::EPERM) => {
            Err(LoadError::Signature(path.to_owned()))
        }
        Err(nix::Error::ENOEXEC) => Err(LoadError::OtherKernel(path.to_owned())),
        Err(error) => Err(kernel(error.into())),
    }
}

fn modprobe() -> Result<(), LoadError> {
    let output = Command::new("modprobe").arg(NAME).stdin(Stdio::null()).output();
    let output = output.map_err(|error| LoadError::Modprobe(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(LoadError::Modprobe(said.lines().next().unwrap_or("it does not say why").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOKS: &str = "slab should_failslab int should_failslab(struct kmem_cache *, gfp_t)\n\
        page should_fail_alloc_page bool should_fail_alloc_page(gfp_t, unsigned int)\n\
        percpu missing pcpu_alloc\npage-pool missing \nbroken\n";

    fn module() -> HooksModule {
        let (functions, missing) = parse(HOOKS);
        HooksModule { version: MODULE_PROTOCOL.to_string(), functions, missing, ftrace_off: false }
    }

    #[test]
    fn the_module_and_the_injector_have_the_same_version() {
        let header = include_str!("../../../module/injector_hooks.h");
        assert!(header.contains(&format!("#define INJECTOR_HOOKS_PROTOCOL {MODULE_PROTOCOL}\n")));
    }

    #[test]
    fn the_module_has_the_hooks_of_the_table() {
        let sources = include_str!("../../../module/hooks.c");
        let tracepoints = include_str!("../../../module/trace.h");
        for hook in Hook::NAMED {
            assert!(sources.contains(&format!(".name = \"{hook}\"")), "{hook}");
            let row = hook.row().expect("a row");
            assert!(tracepoints.contains(&format!("INJECTOR_HOOK(injector_{},", row.program)), "{hook}");
        }
    }

    #[test]
    fn what_it_can_hook() {
        let module = module();
        assert_eq!(module.serves(Hook::Slab), Ok(()));
        assert_eq!(
            module.of(Hook::Page).map(|it| it.function.as_str()).collect::<Vec<_>>(),
            ["should_fail_alloc_page"]
        );
        let function = "pcpu_alloc".to_owned();
        assert_eq!(module.serves(Hook::Percpu), Err(ModuleError::NoFunction { hook: Hook::Percpu, function }));
        for hook in [Hook::PagePool, Hook::Bio] {
            assert_eq!(module.serves(hook), Err(ModuleError::Unknown { hook }));
        }
        assert_eq!(serves(None, Hook::Slab), Err(ModuleError::NotLoaded));
        let off = HooksModule { ftrace_off: true, ..module.clone() };
        assert_eq!(off.serves(Hook::Slab), Err(ModuleError::FtraceOff));
        let other = HooksModule { version: "99".to_owned(), ..module.clone() };
        assert_eq!(other.serves(Hook::Slab), Err(ModuleError::Version { found: "99".to_owned() }));
        let mut changed = module;
        changed.functions[0].other = Some("int should_failslab(gfp_t)".to_owned());
        assert!(
            changed.serves(Hook::Slab).unwrap_err().to_string().contains("here it is `int should_failslab(gfp_t)`")
        );
        assert_eq!(changed.serves(Hook::Page), Ok(()));
    }

    #[test]
    fn c_and_btf_write_prototypes_differently() {
        let same = |a, b| normal(a) == normal(b);
        assert!(same("void * f(unsigned long, const void *)", "void *f(long unsigned int, const void *)"));
        assert!(!same("void *f(unsigned long)", "void *f(unsigned int)"));
    }

    #[test]
    fn it_is_found_where_it_is_installed() {
        let root = tempfile::tempdir().expect("a directory");
        let files = KernelFiles::new(root.path());
        fs::create_dir_all(root.path().join("proc/sys/kernel")).expect("writable");
        fs::write(root.path().join("proc/sys/kernel/osrelease"), "6.12.0\n").expect("writable");
        let release = files.release().expect("written");
        assert_eq!(installed(&files, &release), None);
        let directory = root.path().join("lib/modules/6.12.0/updates/dkms");
        fs::create_dir_all(&directory).expect("writable");
        fs::write(directory.join("injector_hooks_other.ko"), "").expect("writable");
        assert_eq!(installed(&files, &release), None);
        fs::write(directory.join("injector_hooks.ko.xz"), "").expect("writable");
        assert_eq!(installed(&files, &release), Some(directory.join("injector_hooks.ko.xz")));
        assert_eq!(HooksModule::read(&files), None);
    }
}
