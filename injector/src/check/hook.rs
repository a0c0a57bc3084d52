//! What a hook needs: that the kernel has the function, calls it, lists it, and that it takes what the eBPF side expects.

use super::{Check, GUEST};
use crate::kernel::Survey;
use crate::kernel::hooks::Injectable;
use crate::kernel::kallsyms::Addresses;
use crate::plan::Hook;

/// All checks of one hook.
pub(super) fn checks(survey: &Survey, hook: Hook) -> impl Iterator<Item = Check> {
    [Some(listed(survey, hook)), Some(prototype(survey, hook)), clones(survey, hook)].into_iter().flatten()
}

/// What the hook's function is called here, as far as that is known.
fn function(survey: &Survey, hook: Hook) -> &'static str {
    survey.injectable.as_ref().map_or_else(|_| hook.function(), |list: &Injectable| list.function_of(hook))
}

fn listed(survey: &Survey, hook: Hook) -> Check {
    let name = format!("hook {hook}");
    let (function, functions) = (function(survey, hook), hook.functions().collect::<Vec<_>>());
    let any = functions.join(" or ");
    let version = survey.release.as_ref().ok().and_then(|release| release.version());
    // In older kernels the function is always there, and can still be unlisted.
    let needs = hook.needs().filter(|needs| version.is_none_or(|version| version >= needs.since));
    let injection = "CONFIG_FUNCTION_ERROR_INJECTION";
    let remedy = |option: &str| format!("use a kernel with {option}=y, {GUEST}");
    let is_there = |addresses: &Addresses| functions.iter().any(|function| addresses.get(function).is_some());
    if matches!(&survey.addresses, Ok(addresses) if !addresses.are_hidden() && !is_there(addresses)) {
        let remedy = remedy(needs.map_or(injection, |needs| needs.option));
        return Check::missing(&name, format!("this kernel has no function {any}"), remedy);
    }
    let unlisted = match hook.row().and_then(|row| row.unlisted) {
        Some(unlisted) => format!("{unlisted}, {GUEST}"),
        None => remedy(needs.filter(|needs| needs.lists).map_or(injection, |needs| needs.option)),
    };
    match survey.injectable.as_ref().map(|list: &Injectable| list.error_type(function)) {
        Err(_) => Check::unknown(&name, format!("{any}: can't tell without the error injection list")),
        Ok(None) => {
            let lacks = match functions.as_slice() {
                [function] => format!("{function} is not"),
                several => format!("neither {} is", several.join(" nor ")),
            };
            Check::missing(&name, format!("{lacks} in the error injection list"), unlisted)
        }
        Ok(Some(error_type)) if error_type.is(&hook.error_type()) => {
            Check::found(&name, format!("{function}, error type {error_type}"))
        }
        Ok(Some(error_type)) => Check::missing(
            &name,
            format!("{function} may only return {error_type} here, not {}", hook.error_type()),
            format!("leave this hook out (--hook), {GUEST}"),
        ),
    }
}

fn prototype(survey: &Survey, hook: Hook) -> Check {
    let name = format!("hook {hook}: prototype");
    let function = function(survey, hook);
    let known = hook.prototype(function);
    match survey.types.as_ref().map(|types| types.prototype(function)) {
        Ok(Some(prototype)) if known.is_none_or(|known| prototype == known) => Check::found(&name, prototype),
        Ok(Some(prototype)) => Check::missing(
            &name,
            format!("`{prototype}` here, but the injector knows `{}`", known.unwrap_or_default()),
            format!("use a kernel that the injector knows, or leave this hook out (--hook), {GUEST}"),
        ),
        Ok(None) => Check::unknown(&name, format!("BTF has no {function}")),
        Err(_) => Check::unknown(&name, "can't tell without BTF"),
    }
}

/// A copy that the compiler made of a hook is what the kernel calls, and the function that is probed is not.
fn clones(survey: &Survey, hook: Hook) -> Option<Check> {
    let addresses = survey.addresses.as_ref().ok()?;
    let function = function(survey, hook);
    let clone = addresses.called_instead_of(function)?;
    Some(Check::missing(
        &format!("hook {hook}: clone"),
        format!("the compiler made {clone}; the kernel calls that instead of {function}"),
        match hook.needs() {
            Some(needs) => format!("use a kernel with {}=y, {GUEST}", needs.option),
            None => format!("leave this hook out (--hook), {GUEST}"),
        },
    ))
}
