//! Which functions this kernel lets be overridden, and with which errors: `error_injection/list` in debugfs.

mod attach;
mod resolve;

use std::fmt;

use super::{KernelError, KernelFiles};
use crate::arch::{NOT_64_BIT, RENAMED_SYSCALLS, SYSCALL_FUNCTIONS};
use crate::plan::hook::FunctionError;
use crate::plan::{ErrorNumber, Hook};

pub use attach::{Attach, AttachError, FOR_OVERRIDES, FOR_TRAMPOLINES, Ways};
pub use resolve::{HookError, HookPoint, attaches, resolve};

/// What a function may be made to return.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorType {
    /// NULL.
    Null,
    /// A negative error number.
    Errno,
    /// Either.
    ErrnoNull,
    /// The value 1.
    True,
    /// A word that this program does not know.
    Other(String),
}

/// A function that may be overridden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its symbol.
    pub name: String,
    /// The module that it is in; `None`: the kernel proper.
    pub module: Option<String>,
    /// What it may be made to return.
    pub error_type: ErrorType,
}

/// The functions that may be overridden, in the kernel's order.
#[derive(Clone, Debug, Default)]
pub struct Injectable(Vec<Listed>);

/// The file, from the root.
pub const LIST: &str = "sys/kernel/debug/error_injection/list";

impl Listed {
    /// The hook that has it, if one has.
    #[must_use]
    pub fn hook(&self) -> Option<Hook> {
        Hook::NAMED.into_iter().find(|hook| hook.has_function(&self.name))
    }

    /// The system call of 64-bit programs that it is: `openat`.
    #[must_use]
    pub fn syscall(&self) -> Option<&str> {
        let bare = bare_syscall(&self.name)?;
        if let Some((name, _)) = RENAMED_SYSCALLS.iter().find(|(_, function)| *function == bare) {
            return Some(name);
        }
        // The old forms of those above: there, but no number leads to them.
        let dead = RENAMED_SYSCALLS.iter().any(|(name, _)| *name == bare) || NOT_64_BIT.contains(&bare);
        (!dead).then_some(bare)
    }

    /// The shortest name by which `--function` takes it.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.syscall().unwrap_or(&self.name)
    }
}

fn bare_syscall(function: &str) -> Option<&str> {
    SYSCALL_FUNCTIONS.iter().find_map(|prefix| function.strip_prefix(prefix))
}

impl Injectable {
    /// Reads the list.
    ///
    /// # Errors
    /// debugfs is not mounted, or the kernel has no error injection.
    pub fn read(files: &KernelFiles) -> Result<Self, KernelError> {
        Ok(Self::parse(&files.read_text(LIST)?))
    }

    /// Lines are `should_failslab\tERRNO`, or `open_ctree [btrfs]\tERRNO`.
    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (symbol, kind) = line.rsplit_once('\t')?;
            let mut words = symbol.split(' ');
            let name = words.next()?.split('+').next().filter(|name| !name.is_empty())?.to_owned();
            let module = words.find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
            Some(Listed { name, module: module.map(str::to_owned), error_type: kind.trim().into() })
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// How the function may fail; `None`: not at all.
    #[must_use]
    pub fn error_type(&self, function: &str) -> Option<&ErrorType> {
        self.get(function).map(|listed| &listed.error_type)
    }

    /// The function of this symbol.
    #[must_use]
    pub fn get(&self, symbol: &str) -> Option<&Listed> {
        self.0.iter().find(|listed| listed.name == symbol)
    }

    /// The function that a hook is here: the one that is listed, else the first of its functions.
    #[must_use]
    pub fn function_of(&self, hook: Hook) -> &'static str {
        hook.functions().find(|function| self.get(function).is_some()).unwrap_or_else(|| hook.function())
    }

    /// The function that is meant: by its symbol, or by the name of a system call (`openat`, `sys_openat`).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Listed> {
        let bare = bare_syscall(name).or_else(|| name.strip_prefix("sys_")).unwrap_or(name);
        let renamed = RENAMED_SYSCALLS.iter().find(|(call, _)| *call == bare).map(|(_, function)| *function);
        let syscall = |call: &str| SYSCALL_FUNCTIONS.iter().find_map(|prefix| self.get(&format!("{prefix}{call}")));
        self.get(name).or_else(|| syscall(renamed?)).or_else(|| syscall(bare))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Listed> {
        self.0.iter()
    }

    /// How many functions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ErrorType {
    /// What the function returns: `asked`, or where nothing is asked for, what its type suggests. `None`: it may not.
    #[must_use]
    pub fn result(&self, asked: Option<FunctionError>, errno: ErrorNumber) -> Option<i32> {
        let suggested = match self {
            Self::Errno | Self::ErrnoNull => FunctionError::Errno(errno),
            Self::Null => FunctionError::Null,
            Self::True => FunctionError::True,
            Self::Other(_) => return None,
        };
        match (self, asked.unwrap_or(suggested)) {
            (Self::Errno | Self::ErrnoNull, FunctionError::Errno(errno)) => Some(errno.result()),
            (Self::Null | Self::ErrnoNull, FunctionError::Null) => Some(0),
            (Self::True, FunctionError::True) => Some(1),
            _ => None,
        }
    }

    /// Whether it is this one. 5.10 has no word for TRUE and prints `(unknown)` (`error_type_string()`, lib/error-inject.c).
    #[must_use]
    pub fn is(&self, known: &Self) -> bool {
        self == known || (*known == Self::True && matches!(self, Self::Other(word) if word == "(unknown)"))
    }

    /// Whether one error number or another can be chosen.
    #[must_use]
    pub fn has_errno(&self) -> bool {
        matches!(self, Self::Errno | Self::ErrnoNull)
    }

    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(&self) -> &'static str {
        match self {
            Self::Null => "only NULL",
            Self::Errno => "an error (ENOMEM, EIO… or 1 to 4095)",
            Self::ErrnoNull => "an error (ENOMEM, EIO… or 1 to 4095) or NULL",
            Self::True => "only TRUE",
            Self::Other(_) => "nothing that this program knows",
        }
    }
}

impl From<&str> for ErrorType {
    fn from(text: &str) -> Self {
        match text {
            "NULL" => Self::Null,
            "ERRNO" => Self::Errno,
            "ERRNO_NULL" => Self::ErrnoNull,
            "TRUE" => Self::True,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Null => "NULL",
            Self::Errno => "ERRNO",
            Self::ErrnoNull => "ERRNO_NULL",
            Self::True => "TRUE",
            Self::Other(word) => word,
        })
    }
}

impl Hook {
    /// The type that the kernel's list must have for the function, or what the eBPF side returns is not safe.
    #[must_use]
    pub fn error_type(self) -> ErrorType {
        self.row().map_or(ErrorType::Errno, |row| row.error_type.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parsed() {
        let list = Injectable::parse(
            "should_failslab\tERRNO\nopen_ctree [btrfs]\tERRNO\nshould_fail_alloc_page\tTRUE\nf+0x0/0x10\tODD\n",
        );
        assert_eq!(list.error_type("should_failslab"), Some(&Hook::Slab.error_type()));
        assert_eq!(list.error_type("should_fail_alloc_page"), Some(&Hook::Page.error_type()));
        assert_eq!(list.error_type("f"), Some(&ErrorType::Other("ODD".to_owned())));
        assert_eq!(list.error_type("should_fail"), None);
        assert_eq!(list.len(), 4);
        let module = |name| list.get(name).expect("listed").module.as_deref();
        assert_eq!((module("open_ctree"), module("f")), (Some("btrfs"), None));
        assert_eq!(list.get("should_failslab").and_then(Listed::hook), Some(Hook::Slab));
        assert_eq!(list.get("open_ctree").and_then(Listed::hook), None);
    }

    #[test]
    fn system_calls_are_found_by_the_function_that_is_really_called() {
        let list = Injectable::parse(
            "__x64_sys_openat\tERRNO\n__do_sys_getpid\tERRNO\n__x64_sys_stat\tERRNO\n__x64_sys_newstat\tERRNO\n\
             __x64_sys_umount\tERRNO\n__x64_sys_oldumount\tERRNO\nopen_ctree\tERRNO\n__ia32_sys_openat\tERRNO\n",
        );
        let find = |name| list.find(name).map(|listed| listed.name.as_str());
        for (name, symbol) in [
            ("openat", "__x64_sys_openat"),
            ("sys_openat", "__x64_sys_openat"),
            ("__x64_sys_openat", "__x64_sys_openat"),
            ("__ia32_sys_openat", "__ia32_sys_openat"),
            ("getpid", "__do_sys_getpid"),
            ("__x64_sys_getpid", "__do_sys_getpid"),
            ("stat", "__x64_sys_newstat"),
            ("newstat", "__x64_sys_newstat"),
            ("__x64_sys_stat", "__x64_sys_stat"),
            ("umount2", "__x64_sys_umount"),
            ("open_ctree", "open_ctree"),
        ] {
            assert_eq!(find(name), Some(symbol), "{name}");
        }
        assert_eq!(find("mount"), None);
        let syscalls: Vec<_> = list.iter().map(Listed::syscall).collect();
        assert_eq!(syscalls, [Some("openat"), Some("getpid"), None, Some("stat"), Some("umount2"), None, None, None]);
        assert!(list.iter().all(|listed| list.find(listed.short_name()) == Some(listed)));
    }

    #[test]
    fn true_has_no_word_in_old_kernels() {
        let unknown = ErrorType::from("(unknown)");
        assert!(unknown.is(&Hook::Page.error_type()) && !unknown.is(&Hook::Slab.error_type()));
        assert!(ErrorType::True.is(&ErrorType::True) && !ErrorType::Errno.is(&ErrorType::True));
        assert!(!ErrorType::from("ODD").is(&ErrorType::True));
    }

    #[test]
    fn results_fit_the_type() {
        let enomem = ErrorNumber::ENOMEM;
        let errno = Some(FunctionError::Errno("EIO".parse().expect("known")));
        let (null, one) = (Some(FunctionError::Null), Some(FunctionError::True));
        for (error_type, default, with_errno, with_null, with_true) in [
            (ErrorType::Errno, Some(-12), Some(-5), None, None),
            (ErrorType::ErrnoNull, Some(-12), Some(-5), Some(0), None),
            (ErrorType::Null, Some(0), None, Some(0), None),
            (ErrorType::True, Some(1), None, None, Some(1)),
            (ErrorType::Other("ODD".to_owned()), None, None, None, None),
        ] {
            let results = [None, errno, null, one].map(|asked| error_type.result(asked, enomem));
            assert_eq!(results, [default, with_errno, with_null, with_true], "{error_type}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "([a-z_+\\[\\] \\t]{0,20}\\n){0,5}|\\PC*") {
            let list = Injectable::parse(&text);
            for listed in list.iter() {
                prop_assert!(!listed.name.is_empty());
                let _ = list.find(listed.short_name());
            }
        }

        #[test]
        fn lines_round_trip(name in "[a-z_][a-z0-9_.]{0,30}", module in prop::option::of("[a-z_0-9]{1,12}")) {
            let place = module.as_ref().map(|module| format!(" [{module}]")).unwrap_or_default();
            let list = Injectable::parse(&format!("{name}{place}\tERRNO_NULL\n"));
            let listed = Listed { name: name.clone(), module, error_type: ErrorType::ErrnoNull };
            prop_assert_eq!(list.find(&name), Some(&listed));
        }
    }
}
