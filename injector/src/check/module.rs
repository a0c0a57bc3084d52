//! The module injector_hooks as a prerequisite: for hooks that the kernel does not let be overridden.

use super::{Check, GUEST, Needs, Presence, hook};
use crate::kernel::hooks_module::{self, LoadError, NAME};
use crate::kernel::kallsyms::Addresses;
use crate::kernel::{KernelFiles, Survey};
use crate::module_setup::{self, Obstacle};
use crate::plan::{Backend, Hook};
use crate::sinks;

/// What ftrace needs to call the module.
const OPTION: &str = "CONFIG_DYNAMIC_FTRACE_WITH_ARGS";

/// Whether the kernel itself lets a hook be overridden, as far as that is known.
fn is_overridable(survey: &Survey, hook: Hook) -> bool {
    let error_type = hook.error_type();
    let result = error_type.result(None, crate::plan::ErrorNumber::ENOMEM).unwrap_or_default();
    let listed = |listed: Option<&_>| listed.is_some_and(|listed| *listed == error_type);
    let copied =
        |addresses: &Addresses| hook.functions().any(|function| addresses.called_instead_of(function).is_some());
    survey.injectable.as_ref().is_ok_and(|list| listed(list.error_type(list.function_of(hook))))
        && !survey.addresses.as_ref().is_ok_and(copied)
        && survey.ways.can_override(result)
}

/// Whether it is the module that makes a hook, or would if it were there.
pub(super) fn makes(survey: &Survey, backend: Backend, hook: Hook) -> bool {
    match backend {
        Backend::Module => true,
        Backend::Auto => !is_overridable(survey, hook) && !is_only_hidden(survey, hook) && is_possible(survey),
        Backend::FmodRet | Backend::Kprobe => false,
    }
}

/// Whether the kernel may well let it be overridden, and debugfs is not mounted.
fn is_only_hidden(survey: &Survey, hook: Hook) -> bool {
    let has = |option| survey.options.as_ref().is_ok_and(|options| options.is_on(option));
    let kept = hook.needs().is_none_or(|needs| has(needs.option));
    survey.injectable.is_err() && has("CONFIG_FUNCTION_ERROR_INJECTION") && kept && !hook.is_module_only()
}

/// Why the module must do what the kernel's own hooks could.
fn reason(survey: &Survey, needs: &Needs) -> String {
    let checks = needs.hooks.iter().flat_map(|hook| hook::checks(survey, *hook));
    let why = checks.filter(|check| check.state == Presence::Missing).map(|check| check.detail).next();
    why.unwrap_or_else(|| "this kernel does not let its own hooks be overridden".to_owned())
}

/// Whether this kernel can have the module, as far as is known.
fn is_possible(survey: &Survey) -> bool {
    survey.hooks_module.is_some() || survey.options.as_ref().is_ok_and(|options| options.is_on(OPTION))
}

/// Whether some hook of the run is made by the module.
fn is_needed(survey: &Survey, needs: &Needs) -> bool {
    needs.hooks.iter().any(|hook| makes(survey, needs.backend, *hook))
}

/// The module itself.
pub(super) fn check(files: &KernelFiles, survey: &Survey, needs: &Needs) -> Check {
    let check = match (&survey.hooks_module, &survey.release) {
        (Some(module), _) => Check::found(NAME, format!("loaded, version {}", module.version)),
        (None, Ok(release)) => match hooks_module::installed(files, release) {
            Some(path) => match module_setup::to_loading(files, &path) {
                Some(obstacle) => {
                    let detail = format!("{} is installed, but {}", path.display(), obstacle.reason());
                    Check::missing(NAME, detail, Obstacle::REMEDY)
                }
                None => Check::found(NAME, format!("installed, loaded when it is needed: {}", path.display())),
            },
            None if is_needed(survey, needs) && needs.backend == Backend::Auto => Check::missing(
                NAME,
                format!("neither loaded nor installed, and without it: {}", reason(survey, needs)),
                format!("injector module install, {GUEST}"),
            ),
            None => Check::missing(
                NAME,
                format!("neither loaded nor installed (it needs a kernel with {OPTION})"),
                format!("injector module install, {GUEST}"),
            ),
        },
        (None, Err(error)) => Check::unknown(NAME, error.to_string()),
    };
    check.required_if(is_needed(survey, needs))
}

/// A hook that the module makes.
pub(super) fn hook(survey: &Survey, hook: Hook) -> Check {
    let name = format!("hook {hook}");
    match (&survey.hooks_module, hooks_module::serves(survey.hooks_module.as_ref(), hook)) {
        (Some(module), Ok(())) => {
            let functions: Vec<&str> = module.of(hook).map(|function| function.function.as_str()).collect();
            Check::found(&name, format!("by the module {NAME}: {}", functions.join(", ")))
        }
        // What to do, its own check says.
        (None, _) => Check::unknown(&name, format!("can't tell before the module {NAME} is loaded")),
        (Some(_), Err(error)) => {
            let text = error.to_string();
            let (detail, remedy) = text.rsplit_once("; ").unwrap_or((&text, GUEST));
            Check::missing(&name, detail, remedy)
        }
    }
}

/// Loads the module if a hook needs it and it is installed, and says so. False: nothing was loaded.
pub(super) fn load(files: &KernelFiles, survey: &Survey, needs: &Needs) -> Result<bool, LoadError> {
    let here = files.are_of_running_kernel() && survey.hooks_module.is_none();
    let Some(path) = survey.release.as_ref().ok().and_then(|release| hooks_module::installed(files, release)) else {
        return Ok(false);
    };
    if !here || !is_needed(survey, needs) {
        return Ok(false);
    }
    hooks_module::load(&path)?;
    sinks::announce(format_args!("loaded the module {NAME} ({})", path.display()));
    Ok(true)
}
