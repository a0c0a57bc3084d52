//! Which functions a rule attaches to, and what each of them returns when it is failed.

use super::attach::{Attach, AttachError, Candidate};
use super::{ErrorType, Injectable, Listed};
use crate::kernel::btf::{Btf, Wanted};
use crate::kernel::{Facts, KernelError, KernelFiles, kallsyms};
use crate::plan::hook::{FunctionError, FunctionName};
use crate::plan::{Backend, ErrorNumber, Function, Hook, Rule, suggest};

/// A function to attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookPoint {
    /// As which hook.
    pub hook: Hook,
    /// The symbol.
    pub function: &'static str,
    /// What a failed call returns: a negated error number, 0 for NULL, 1 for TRUE.
    pub error: i32,
}

/// Why a rule's functions can't be failed as it says.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The kernel does not list it.
    #[error("--function {name}: the kernel has no such function, or does not list it as injectable; `injector hooks` lists those that are{}", suggest::did_you_mean(.close))]
    Unlisted {
        /// As it was written.
        name: String,
        /// Names that look like it.
        close: Vec<String>,
    },
    /// The injector knows more of it than any function's return value.
    #[error("--function {name}: that is a hook with a name of its own; write --hook {hook}")]
    Named {
        /// As it was written.
        name: String,
        /// The hook.
        hook: Hook,
    },
    /// Which error is meant?
    #[error("--function {name}: {symbol} is named twice in this rule; name it once")]
    Twice {
        /// As it was written the second time.
        name: String,
        /// The function.
        symbol: String,
    },
    /// Callers don't expect this error and may crash on it.
    #[error("--function {name}: {symbol} can't return {error}; its type is {error_type}, which allows {allowed}")]
    Misfit {
        /// As it was written.
        name: String,
        /// The function.
        symbol: String,
        /// What it should return.
        error: FunctionError,
        /// Its type, as the kernel lists it.
        error_type: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The kernel is newer than this program.
    #[error("--function {name}: {symbol} has the type {error_type}, which this program does not know; leave it out")]
    UnknownType {
        /// As it was written.
        name: String,
        /// The function.
        symbol: String,
        /// Its type, as the kernel lists it.
        error_type: String,
    },
    /// Listed, but there is nothing to attach to by that name.
    #[error("--function {name}: the kernel lists {symbol}, but /proc/kallsyms has no such function; leave it out")]
    NoSymbol {
        /// As it was written.
        name: String,
        /// The function.
        symbol: String,
    },
    /// The kernel attaches by name.
    #[error(
        "--function {name}: this kernel has {count} functions called {symbol}, and which is meant can't be said; leave it out"
    )]
    Ambiguous {
        /// As it was written.
        name: String,
        /// The function.
        symbol: String,
        /// How many functions have this name.
        count: usize,
    },
    /// It would change nothing.
    #[error("--errno {errno} has no effect: {}; leave it out", .returns.join(", "))]
    ErrnoUnused {
        /// The error.
        errno: ErrorNumber,
        /// What returns what instead.
        returns: Vec<String>,
    },
    /// The symbols can't be read.
    #[error("can't read the kernel's symbols: {0}")]
    Symbols(KernelError),
    /// Not in the way that is asked for.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// The functions that the rule attaches to: first those of its named hooks, in their order, then those that it names, in
/// its order.
///
/// # Errors
/// The kernel does not let a function be failed, or not so.
pub fn resolve(rule: &Rule, injectable: &Injectable, files: &KernelFiles) -> Result<Vec<HookPoint>, HookError> {
    let errno = rule.policy.errno.unwrap_or(ErrorNumber::ENOMEM);
    let named = |hook: &Hook| {
        // Whether the kernel lists it with this type, the prerequisites have told.
        let error = hook.error_type().result(None, errno).unwrap_or_default();
        HookPoint { hook: *hook, function: injectable.function_of(*hook), error }
    };
    let mut points: Vec<HookPoint> = rule.hooks.iter().map(named).collect();
    for function in &rule.functions {
        let point = function_point(function, injectable, errno)?;
        if points.iter().any(|known| known.hook == point.hook) {
            return Err(HookError::Twice { name: function.name.clone(), symbol: point.function.to_owned() });
        }
        points.push(point);
    }
    errno_is_of_use(rule, &points, injectable)?;
    symbols_are_unique(rule, &points[rule.hooks.len()..], files)?;
    Ok(points)
}

fn function_point(function: &Function, injectable: &Injectable, errno: ErrorNumber) -> Result<HookPoint, HookError> {
    let name = function.name.clone();
    if let Some(hook) = Hook::NAMED.into_iter().find(|hook| hook.has_function(&name) || hook.name() == name) {
        return Err(HookError::Named { name, hook });
    }
    let Some(listed) = injectable.find(&name) else {
        let known = injectable.iter().map(Listed::short_name).chain(Hook::NAMED.map(Hook::name));
        let close = suggest::close(&name, known, 3).into_iter().map(str::to_owned).collect();
        return Err(HookError::Unlisted { name, close });
    };
    let Some(error) = listed.error_type.result(function.error, errno) else {
        let (symbol, error_type) = (listed.name.clone(), listed.error_type.to_string());
        return Err(match (&listed.error_type, function.error) {
            (ErrorType::Other(_), _) | (_, None) => HookError::UnknownType { name, symbol, error_type },
            (known, Some(error)) => HookError::Misfit { name, symbol, error, error_type, allowed: known.allowed() },
        });
    };
    let symbol = FunctionName::new(&listed.name);
    Ok(HookPoint { hook: Hook::Function(symbol), function: symbol.as_str(), error })
}

/// An error that is asked for must be one that something returns.
fn errno_is_of_use(rule: &Rule, points: &[HookPoint], injectable: &Injectable) -> Result<(), HookError> {
    let Some(errno) = rule.policy.errno else { return Ok(()) };
    let own = rule.functions.iter().map(|function| function.error);
    let own = rule.hooks.iter().map(|_| None).chain(own);
    let mut returns = Vec::new();
    for (point, own) in points.iter().zip(own) {
        let error_type = match point.hook {
            Hook::Function(name) => injectable.error_type(name.as_str()).cloned(),
            hook => Some(hook.error_type()),
        };
        returns.push(match (error_type, own) {
            (_, Some(error)) => format!("{} returns the {error} that is written there", point.hook),
            (Some(error_type), None) if !error_type.has_errno() => {
                format!("{} returns {}", point.hook, error_type.allowed())
            }
            _ => return Ok(()),
        });
    }
    Err(HookError::ErrnoUnused { errno, returns })
}

/// The kernel attaches by name: of two functions with the same name, the wrong one may be hit.
fn symbols_are_unique(rule: &Rule, points: &[HookPoint], files: &KernelFiles) -> Result<(), HookError> {
    if points.is_empty() {
        return Ok(());
    }
    let symbols: Vec<&str> = points.iter().map(|point| point.function).collect();
    let counts = kallsyms::count(files, &symbols).map_err(HookError::Symbols)?;
    for (function, (symbol, count)) in rule.functions.iter().zip(symbols.into_iter().zip(counts)) {
        let (name, symbol) = (function.name.clone(), symbol.to_owned());
        match count {
            0 => return Err(HookError::NoSymbol { name, symbol }),
            1 => {}
            count => return Err(HookError::Ambiguous { name, symbol, count }),
        }
    }
    Ok(())
}

/// How each function is attached, in the order of `points`.
///
/// # Errors
/// It can't be attached as `backend` says.
pub fn attaches(
    points: &[HookPoint],
    backend: Backend,
    facts: &Facts,
    files: &KernelFiles,
) -> Result<Vec<Attach>, HookError> {
    let functions: Vec<&str> =
        points.iter().filter_map(|point| matches!(point.hook, Hook::Function(_)).then_some(point.function)).collect();
    // The types of the named hooks' functions are among the facts; reading them all again takes a moment.
    let types = if functions.is_empty() || backend == Backend::Kprobe || !facts.ways.fmod_ret {
        None
    } else {
        Btf::read(files, Wanted { structs: &[], functions: &functions, enumerators: &[] }).ok()
    };
    let attach = |point: &HookPoint| {
        let HookPoint { hook, function, error } = *point;
        let named = facts.ids.iter().find(|(known, _)| *known == function).map(|(_, id)| *id);
        let id = named.or_else(|| types.as_ref()?.function(function));
        let entry = facts.injectable.get(function);
        let module = entry.and_then(|entry| entry.module.as_deref());
        let of_type = |entry: &Listed| matches!(hook, Hook::Function(_)) || entry.error_type == hook.error_type();
        let listed = entry.is_some_and(of_type) && facts.addresses.called_instead_of(function).is_none();
        let candidate = Candidate { hook, function, error, module, id, listed };
        Ok(facts.ways.choose(backend, candidate, facts.hooks_module.as_ref())?)
    };
    points.iter().map(attach).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Filter, Policy};

    const LIST: &str = "should_failslab\tERRNO\nshould_fail_alloc_page\tTRUE\npage_pool_alloc_pages\tNULL\n\
        __filemap_add_folio\tERRNO\nopen_ctree [btrfs]\tERRNO\nbtrfs_should_cancel_balance\tTRUE\nget_it\tERRNO_NULL\n\
        gone\tERRNO\ntwice\tERRNO\nodd\tODD\n__x64_sys_openat\tERRNO\n__do_sys_getpid\tERRNO\n";
    const SYMBOLS: &str = "ffffffff81000000 t open_ctree\t[btrfs]\nffffffff81000010 T btrfs_should_cancel_balance\n\
        ffffffff81000020 T get_it\nffffffff81000030 t twice\nffffffff81000040 t twice\t[b]\nffffffff81000050 T odd\n\
        ffffffff81000060 T __x64_sys_openat\nffffffff81000070 t __do_sys_getpid\nffffffff81000070 T __x64_sys_getpid\n\
        ffffffff81000080 d gone\n";

    fn rule(hooks: &[Hook], functions: &[&str], errno: Option<&str>) -> Rule {
        let policy = Policy { errno: errno.map(|errno| errno.parse().expect("known")), ..Policy::default() };
        let functions = functions.iter().map(|function| function.parse().expect("a function")).collect();
        Rule { functions, ..Rule::new(hooks.to_vec(), Filter::default(), policy) }
    }

    fn points(hooks: &[Hook], functions: &[&str], errno: Option<&str>) -> Result<Vec<(&'static str, i32)>, String> {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join("proc")).expect("writable");
        std::fs::write(root.path().join("proc/kallsyms"), SYMBOLS).expect("writable");
        let rule = rule(hooks, functions, errno);
        let points = resolve(&rule, &Injectable::parse(LIST), &KernelFiles::new(root.path()));
        let points = points.map_err(|error| error.to_string())?;
        assert!(points.iter().all(|point| point.function == point.hook.function()));
        Ok(points.iter().map(|point| (point.function, point.error)).collect())
    }

    #[test]
    fn named_hooks_come_first_then_functions_as_written() {
        assert_eq!(
            points(&[Hook::Slab, Hook::Page], &["open_ctree=EIO", "openat", "getpid=1"], None).expect("right"),
            [
                ("should_failslab", -12),
                ("should_fail_alloc_page", 1),
                ("open_ctree", -5),
                ("__x64_sys_openat", -12),
                ("__do_sys_getpid", -1)
            ]
        );
        assert_eq!(
            points(&Hook::NAMED, &[], Some("EIO"))
                .expect("right")
                .into_iter()
                .map(|(_, error)| error)
                .collect::<Vec<_>>(),
            [-5, 1, -5, -5, 0, 0, 0]
        );
        assert_eq!(
            points(&[], &["get_it=NULL", "btrfs_should_cancel_balance", "openat"], Some("EACCES")).expect("right"),
            [("get_it", 0), ("btrfs_should_cancel_balance", 1), ("__x64_sys_openat", -13)]
        );
    }

    #[test]
    fn refused() {
        for (functions, expected) in [
            (
                &["opnat"][..],
                "--function opnat: the kernel has no such function, or does not list it as injectable; `injector hooks` lists those that are; did you mean openat, open_ctree?",
            ),
            (
                &["should_failslab"],
                "--function should_failslab: that is a hook with a name of its own; write --hook slab",
            ),
            (&["slab"], "--function slab: that is a hook with a name of its own; write --hook slab"),
            (
                &["openat", "__x64_sys_openat=EIO"],
                "--function __x64_sys_openat: __x64_sys_openat is named twice in this rule; name it once",
            ),
            (
                &["openat=NULL"],
                "--function openat: __x64_sys_openat can't return NULL; its type is ERRNO, which allows an error (ENOMEM, EIO… or 1 to 4095)",
            ),
            (
                &["btrfs_should_cancel_balance=EIO"],
                "--function btrfs_should_cancel_balance: btrfs_should_cancel_balance can't return EIO; its type is TRUE, which allows only TRUE",
            ),
            (
                &["get_it=TRUE"],
                "--function get_it: get_it can't return TRUE; its type is ERRNO_NULL, which allows an error (ENOMEM, EIO… or 1 to 4095) or NULL",
            ),
            (&["odd"], "--function odd: odd has the type ODD, which this program does not know; leave it out"),
            (
                &["gone"],
                "--function gone: the kernel lists gone, but /proc/kallsyms has no such function; leave it out",
            ),
            (
                &["openat", "twice"],
                "--function twice: this kernel has 2 functions called twice, and which is meant can't be said; leave it out",
            ),
        ] {
            assert_eq!(points(&[], functions, None).expect_err(expected), expected);
        }
        assert_eq!(
            points(&[Hook::Page], &["openat=EACCES"], Some("EIO")).expect_err("unused"),
            "--errno EIO has no effect: page returns only TRUE, __x64_sys_openat returns the EACCES that is written there; leave it out"
        );
    }
}
