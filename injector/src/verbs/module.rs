//! `injector module`: builds, installs, loads and removes the module injector_hooks.

use std::{
    ffi::CString,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use injector::{
    exit::{Context as _, Error, ExitCode, Result},
    kernel::{
        KernelFiles, Release,
        hooks_module::{self, HooksModule},
    },
    module_setup::{self, KernelTree, Package, Request, SetupError},
    sinks,
};
use injector_common::hooks::MODULE_PROTOCOL;
use injector_kernels::hooks;
use nix::{
    kmod::{DeleteModuleFlags, delete_module},
    unistd::geteuid,
};

/// Does what was asked for.
pub fn module(files: &KernelFiles, request: &Request) -> Result<ExitCode> {
    match request {
        Request::Build { kernel, output } => build(files, kernel.as_deref(), output)?,
        Request::Install { kernel, dkms, root } => install(files, kernel.as_deref(), *dkms, root)?,
        Request::Load => load(files)?,
        Request::Status => return status(files),
        Request::Remove { kernel, root } => remove(files, kernel.as_deref(), root)?,
    }
    Ok(ExitCode::OK)
}

fn say(text: &str) {
    sinks::announce(format_args!("{text}"));
}

fn build(files: &KernelFiles, kernel: Option<&str>, output: &Path) -> Result<()> {
    let kernel = KernelTree::find(files, kernel)?;
    let work = tempfile::tempdir().context("can't make a directory for the build")?;
    let module = kernel.build(work.path(), &say)?;
    let output = if output.is_dir() { output.join(hooks::FILE) } else { output.to_owned() };
    fs::copy(module, &output).with_context(|| format!("can't write {}", output.display()))?;
    say(&format!("{} is for kernel {}", output.display(), kernel.release));
    Ok(())
}

fn install(files: &KernelFiles, kernel: Option<&str>, dkms: bool, root: &Path) -> Result<()> {
    let here = root == Path::new("/");
    if here {
        needs_root("installs")?;
    }
    if dkms {
        return install_by_dkms(files, kernel, root);
    }
    let kernel = KernelTree::find(files, kernel)?;
    let work = tempfile::tempdir().context("can't make a directory for the build")?;
    let module = kernel.build(work.path(), &say)?;
    let place = module_setup::place(root, &kernel.release, &module)?;
    say(&format!("installed {}; injector loads it when it needs it", place.display()));
    let running = files.release().is_ok_and(|release| release.as_str() == kernel.release);
    if running && let Some(obstacle) = module_setup::to_loading(files, &place) {
        say(&format!("{obstacle}"));
    }
    Ok(())
}

fn install_by_dkms(files: &KernelFiles, kernel: Option<&str>, root: &Path) -> Result<()> {
    let package = Package::of_this_injector(root);
    let directory = package.write()?;
    say(&format!("wrote the DKMS package {} to {}", package.name(), directory.display()));
    if root == Path::new("/") {
        let KernelTree { release, tree: _ } = KernelTree::find(files, kernel)?;
        package.install(&release)?;
        say(&format!("DKMS built and installed it for kernel {release}; injector loads it when it needs it"));
    }
    Ok(())
}

fn load(files: &KernelFiles) -> Result<()> {
    needs_root("loads modules")?;
    let release = files.release()?;
    if let Some(loaded) = HooksModule::read(files) {
        if loaded.version == MODULE_PROTOCOL.to_string() {
            say(&format!("{} is loaded already", hooks::NAME));
            return Ok(());
        }
        say(&format!("unloading {} of version {}", hooks::NAME, loaded.version));
        unload()?;
    }
    let path = found(files, &release)?;
    if let Some(obstacle) = module_setup::to_loading(files, &path) {
        return Err(Error::new(ExitCode::MISSING, format_args!("{}: {obstacle}", path.display())));
    }
    hooks_module::load(&path).map_err(|error| Error::new(ExitCode::MISSING, error))?;
    say(&format!("loaded {}", path.display()));
    Ok(())
}

fn found(files: &KernelFiles, release: &Release) -> Result<PathBuf> {
    hooks_module::installed(files, release).ok_or_else(|| {
        let name = hooks::NAME;
        let remedy = "build and install it: injector module install";
        Error::new(ExitCode::MISSING, format!("the module {name} is not installed for kernel {release}; {remedy}"))
    })
}

fn status(files: &KernelFiles) -> Result<ExitCode> {
    let mut text = Vec::new();
    let code = describe(files, &mut text)?;
    sinks::print(|out| out.write_all(&text))?;
    Ok(code)
}

fn describe(files: &KernelFiles, out: &mut dyn Write) -> Result<ExitCode> {
    let release = files.release()?;
    writeln!(out, "{} for kernel {release}; this injector has version {MODULE_PROTOCOL}", hooks::NAME)?;
    let installed = hooks_module::installed(files, &release);
    match &installed {
        Some(path) => writeln!(out, "installed  {}", path.display())?,
        None => writeln!(out, "installed  no; build and install it: injector module install")?,
    }
    let Some(loaded) = HooksModule::read(files) else {
        match installed.as_ref().and_then(|path| module_setup::to_loading(files, path)) {
            Some(obstacle) => writeln!(out, "loaded     no; {obstacle}")?,
            None => writeln!(out, "loaded     no; injector loads it when it needs it")?,
        }
        return Ok(if installed.is_some() { ExitCode::OK } else { ExitCode::MISSING });
    };
    let users = hooks_module::users(files).unwrap_or_default();
    writeln!(out, "loaded     version {}, used by {users}", loaded.version)?;
    for function in &loaded.functions {
        writeln!(out, "hooks      {} by {}()", function.hook, function.function)?;
    }
    for (hook, function) in &loaded.missing {
        let why = if function.is_empty() { String::new() } else { format!(": this kernel has no {function}()") };
        writeln!(out, "can't hook {hook}{why}")?;
    }
    Ok(ExitCode::OK)
}

fn remove(files: &KernelFiles, kernel: Option<&str>, root: &Path) -> Result<()> {
    let here = root == Path::new("/");
    if here {
        needs_root("removes")?;
    }
    let running = files.release()?;
    let release = kernel.map_or_else(|| running.to_string(), str::to_owned);
    let mut any = false;
    if here && release == running.as_str() && HooksModule::read(files).is_some() {
        unload()?;
        say(&format!("unloaded {}", hooks::NAME));
        any = true;
    }
    if module_setup::remove(root, &release)? {
        say(&format!("removed {} from the modules of kernel {release}", hooks::NAME));
        any = true;
    }
    let package = Package::of_this_injector(root);
    if package.is_known() {
        package.forget()?;
        say(&format!("took {} from DKMS", package.name()));
        any = true;
    }
    let sources = package.sources();
    if sources.is_dir() {
        fs::remove_dir_all(&sources).with_context(|| format!("can't remove {}", sources.display()))?;
        any = true;
    }
    if any { Ok(()) } else { Err(SetupError::NotThere(release).into()) }
}

/// Unloads the module; the kernel refuses that while something uses it.
fn unload() -> Result<()> {
    let name = CString::new(hooks::NAME)?;
    match delete_module(&name, DeleteModuleFlags::O_NONBLOCK) {
        Ok(()) => Ok(()),
        Err(nix::Error::EWOULDBLOCK) => Err(SetupError::InUse.into()),
        Err(error) => Err::<(), _>(error).context(format_args!("can't unload {}", hooks::NAME)),
    }
}

fn needs_root(does: &str) -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(Error::new(ExitCode::MISSING, format_args!("only root {does}: sudo injector module …")))
}
