//! The root of the project's guests: programs of this machine, the injector, the test modules, the workloads.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use injector_guest::Initramfs;
use injector_guest::root::{self, Base};

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
    /// More files: of this machine, and where they go.
    pub added: Vec<(PathBuf, String)>,
}

/// Builds the root.
pub fn build(contents: &Contents) -> Result<Initramfs> {
    setup::packages(&[Group::Guest])?;
    let init = static_build::binary("injector-guest", "injector-init")?;
    let Base { mut root, missing } = root::base(&init)?;
    if !missing.is_empty() {
        bail!("{}: not there, though the packages are installed", missing.join(", "));
    }
    let Contents { injector, modules, added } = contents;
    if let Some(injector) = injector {
        root.file(injector, "/usr/bin/injector")?;
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
    let workloads = process::workspace().join("tests/workloads");
    if workloads.is_dir() {
        root.tree(&workloads, "/workloads")?;
    }
    let programs = static_build::binaries("injector-tests", &WORKLOADS.map(|(name, _)| name))?;
    for (program, (_, path)) in programs.iter().zip(WORKLOADS) {
        root.file(&program.path, path)?;
    }
    for (host, guest) in added {
        root::add(&mut root, host, guest)?;
    }
    Ok(root)
}
