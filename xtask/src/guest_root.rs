//! The root of the project's guests: programs of this machine, the injector, the test modules, the workloads.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use injector_guest::Initramfs;
use injector_guest::root::{self, Base};
use injector_kernels::InstalledKernel;

use crate::module;
use crate::packages::Group;
use crate::process;
use crate::setup;
use crate::static_build;

/// Workloads that are programs: their binaries, and where they stand beside the scripts.
const WORKLOADS: [(&str, &str); 2] =
    [("workload-sockets", "/workloads/sockets"), ("workload-uring", "/workloads/uring")];

/// What goes into the root besides the programs.
#[derive(Debug, Default)]
pub struct Contents {
    /// The injector's binary.
    pub injector: Option<PathBuf>,
    /// Kernel modules, for /lib/modules; injector_hooks for where modules are installed.
    pub modules: Vec<PathBuf>,
    /// A distribution's kernel, whose modules go there too.
    pub distribution: Option<Distribution>,
    /// As little as possible is compiled for it: of the workloads it gets the scripts only.
    pub scripts_only: bool,
    /// More files: of this machine, and where they go.
    pub added: Vec<(PathBuf, String)>,
}

/// A distribution's kernel, and a directory with its modules that is not its own.
#[derive(Debug)]
pub struct Distribution {
    pub kernel: InstalledKernel,
    pub modules: Option<PathBuf>,
}

/// Whether a word of a command is about a workload that is a program.
pub fn is_workload_program(word: &str) -> bool {
    WORKLOADS.iter().any(|(_, path)| word.contains(path))
}

/// Builds the root.
pub fn build(contents: &Contents) -> Result<Initramfs> {
    setup::packages(&[Group::Guest])?;
    let Contents { injector, modules, distribution, scripts_only, added } = contents;
    // The injector can be init, too, which spares the compilation of one that is nothing else.
    let init = match injector {
        Some(injector) if *scripts_only => injector.clone(),
        _ => static_build::binary("injector-guest", "injector-init")?,
    };
    let Base { mut root, missing } = root::base(&init)?;
    if !missing.is_empty() {
        bail!("{}: not there, though the packages are installed", missing.join(", "));
    }
    match injector {
        Some(injector) if *injector == init => drop(root.symlink("/usr/bin/injector", "/init")),
        Some(injector) => drop(root.file(injector, "/usr/bin/injector")?),
        None => {}
    }
    for module in modules {
        let name = module.file_name().with_context(|| format!("{}: a module without a name", module.display()))?;
        let name = name.to_string_lossy();
        let directory = match &*name {
            module::HOOKS_FILE => format!("/lib/modules/{}/updates", module::release(module)?),
            _ => "/lib/modules".to_owned(),
        };
        root.file(module, &format!("{directory}/{name}"))?;
    }
    if let Some(Distribution { kernel, modules }) = distribution {
        kernel.put_into(&mut root, modules.as_deref())?;
    }
    let workloads = process::workspace().join("tests/workloads");
    if workloads.is_dir() {
        root.tree(&workloads, "/workloads")?;
    }
    if !scripts_only {
        let programs = static_build::binaries("injector-tests", &WORKLOADS.map(|(name, _)| name))?;
        for (program, (_, path)) in programs.iter().zip(WORKLOADS) {
            root.file(&program.path, path)?;
        }
    }
    for (host, guest) in added {
        root::add(&mut root, host, guest)?;
    }
    Ok(root)
}
