//! What can be failed on this kernel, as a list: function, type, module, and the option that does it.
//!
//! `injector hooks` prints it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::foreign::Foreign;
use crate::kernel::hooks::{Injectable, Listed};
use crate::kernel::hooks_module::{HookedFunction, HooksModule, NAME};
use crate::plan::{Glob, Hook, suggest};

/// Version of the JSON that [`HookList::to_json`] writes.
pub const SCHEMA: u32 = 1;

/// Which functions are shown: those with a name that has this in it, or that this glob matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    glob: Glob,
}

/// A `[` without its `]`, or with nothing inside.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` has an unfinished [ ]; it lists characters: btrfs_[a-c]*")]
pub struct BadPattern(Foreign);

/// No function is called so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no injectable function matches `{pattern}`{}", suggest::did_you_mean(.close))]
pub struct NothingMatches {
    /// The pattern.
    pub pattern: Foreign,
    /// Names that look like it.
    pub close: Vec<String>,
}

crate::exit::has_exit_code!(NothingMatches => USAGE);

/// The list: first the hooks with a name of their own, then functions, then system calls.
#[derive(Debug)]
pub struct HookList<'a> {
    kernel: &'a str,
    functions: Vec<&'a Listed>,
    /// Hooks that this kernel has not; empty where only a part was asked for.
    absent: Vec<Hook>,
    /// What the module injector_hooks can hook, if it is loaded; as above.
    module: Vec<&'a HookedFunction>,
}

impl FromStr for NamePattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let bare = !text.contains(['*', '?', '[']);
        let glob = if bare { Glob::new(&format!("*{text}*")) } else { Glob::new(text) };
        let glob = glob.ok_or_else(|| BadPattern(text.into()))?;
        Ok(Self { text: text.to_owned(), glob })
    }
}

impl NamePattern {
    fn matches(&self, listed: &Listed) -> bool {
        let names =
            [Some(listed.name.as_str()), listed.syscall(), listed.hook().map(Hook::name), listed.module.as_deref()];
        names.into_iter().flatten().any(|name| self.glob.matches(name))
    }
}

impl<'a> HookList<'a> {
    /// Sorts the list.
    ///
    /// # Errors
    /// The pattern matches nothing.
    pub fn new(
        kernel: &'a str,
        injectable: &'a Injectable,
        module: Option<&'a HooksModule>,
        pattern: Option<&NamePattern>,
    ) -> Result<Self, NothingMatches> {
        let wanted = |listed: &&Listed| pattern.is_none_or(|pattern| pattern.matches(listed));
        let mut functions: Vec<&Listed> = injectable.iter().filter(wanted).collect();
        if let (true, Some(pattern)) = (functions.is_empty(), pattern) {
            let names = injectable.iter().map(Listed::short_name);
            let close = suggest::close(&pattern.text, names, 3).into_iter().map(str::to_owned).collect();
            return Err(NothingMatches { pattern: pattern.text.as_str().into(), close });
        }
        functions.sort_by_key(|listed| {
            let hook = listed.hook().map_or(Hook::NAMED.len(), position);
            (hook, listed.name.contains("_sys_"), listed.syscall().is_none(), listed.short_name())
        });
        let mut absent = Hook::NAMED.to_vec();
        absent.retain(|hook| pattern.is_none() && hook.functions().all(|function| injectable.get(function).is_none()));
        let serves = |hook: &Hook| module.is_some_and(|module| module.serves(*hook).is_ok());
        absent.retain(|hook| !serves(hook));
        let hooked =
            module.iter().flat_map(|module| Hook::NAMED.into_iter().filter(serves).flat_map(|hook| module.of(hook)));
        let module = hooked.filter(|_| pattern.is_none()).collect();
        Ok(Self { kernel, functions, absent, module })
    }

    /// The list as one line of JSON.
    ///
    /// # Errors
    /// None in practice: all keys are texts.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Function<'a> {
            function: &'a str,
            error_type: String,
            module: Option<&'a str>,
            hook: Option<Hook>,
            syscall: Option<&'a str>,
        }
        #[derive(Serialize)]
        struct Json<'a> {
            schema: u32,
            r#type: &'static str,
            kernel: &'a str,
            functions: Vec<Function<'a>>,
            module: Vec<Hooked<'a>>,
        }
        #[derive(Serialize)]
        struct Hooked<'a> {
            hook: &'a str,
            function: &'a str,
        }
        let Self { kernel, functions, absent: _, module } = self;
        let hooked = |hooked: &&'a HookedFunction| Hooked { hook: &hooked.hook, function: &hooked.function };
        let module = module.iter().map(hooked).collect();
        let function = |listed: &&'a Listed| Function {
            function: &listed.name,
            error_type: listed.error_type.to_string(),
            module: listed.module.as_deref(),
            hook: listed.hook(),
            syscall: listed.syscall(),
        };
        let functions = functions.iter().map(function).collect();
        serde_json::to_string(&Json { schema: SCHEMA, r#type: "hooks", kernel, functions, module })
    }
}

fn position(hook: Hook) -> usize {
    Hook::NAMED.iter().position(|named| *named == hook).unwrap_or(Hook::NAMED.len())
}

fn option(listed: &Listed) -> String {
    match listed.hook() {
        Some(hook) => format!("--hook {hook}"),
        None => format!("--function {}", listed.short_name()),
    }
}

impl fmt::Display for HookList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, functions, absent, module: hooked } = self;
        let head = ["FUNCTION", "TYPE", "MODULE", "OPTION"].map(str::to_owned);
        let row = |listed: &&Listed| {
            let module = listed.module.as_deref().unwrap_or("-").to_owned();
            [listed.name.clone(), listed.error_type.to_string(), module, option(listed)]
        };
        let rows: Vec<[String; 4]> = std::iter::once(head).chain(functions.iter().map(row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let [function, error_type, module] = [0, 1, 2].map(width);
        for [a, b, c, d] in &rows {
            writeln!(f, "{a:<function$}  {b:<error_type$}  {c:<module$}  {d}")?;
        }
        let count = functions.len();
        writeln!(f, "\n{count} function{} can be made to fail in kernel {kernel}.", if count == 1 { "" } else { "s" })?;
        for hook in absent {
            if hook.is_module_only() {
                writeln!(f, "--hook {hook} can't be used: it needs the module {NAME}.")?;
                continue;
            }
            let functions: Vec<&str> = hook.functions().collect();
            let lacks = match functions.as_slice() {
                [function] => format!("{function} is not"),
                several => format!("neither {} is", several.join(" nor ")),
            };
            writeln!(f, "--hook {hook} can't be used: {lacks} in the kernel's list.")?;
        }
        for HookedFunction { hook, function, .. } in hooked {
            writeln!(f, "--hook {hook} by the module {NAME}: {function}")?;
        }
        Ok(())
    }
}
