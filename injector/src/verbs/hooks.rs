//! `injector hooks`: lists the functions that can be made to fail on this kernel.

use injector::{
    check::{self, Caller},
    exit::{ExitCode, Result},
    hook_list::{HookList, NamePattern},
    kernel::{KernelFiles, hooks::Injectable, hooks_module::HooksModule},
    sinks,
};

/// Prints the functions whose names match the pattern; without one, all of them.
pub fn hooks(files: &KernelFiles, pattern: Option<&NamePattern>, json: bool) -> Result<ExitCode> {
    let module = HooksModule::read(files);
    let injectable = match check::injectable(files, &Caller::this(files)) {
        Err(_) if module.is_some() => Injectable::default(),
        listed => listed?,
    };
    let release = files.release()?;
    let list = HookList::new(release.as_str(), &injectable, module.as_ref(), pattern)?;
    let text = if json { format!("{}\n", list.to_json()?) } else { list.to_string() };
    sinks::print(|out| out.write_all(text.as_bytes()))?;
    Ok(ExitCode::OK)
}
