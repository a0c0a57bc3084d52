//! The hooks by name.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use injector_common::{
    arch::PAGE_SHIFT,
    decide::order_of_size,
    hooks::{self, Arguments, Needs, Row},
    named_hooks,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::errno::UnknownError;
use super::{ErrorNumber, OrderRange, SizeRange, suggest};
use crate::arch::SYSCALL_FUNCTIONS;
use crate::foreign::Foreign;

macro_rules! hook {
    ($($(#[$doc:meta])* $variant:ident $program:ident { $($row:tt)* })*) => {
        /// An error-injectable kernel function that the injector attaches to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Hook {
            $($(#[$doc])* $variant,)*
            /// Any other function that the kernel lists, by its symbol.
            Function(FunctionName),
        }

        impl Hook {
            /// Those with a name of their own, by number.
            pub const NAMED: [Self; hooks::NAMED.len()] = [$(Self::$variant),*];

            /// The number on the eBPF side; none of functions, which are numbered in each run.
            #[must_use]
            pub fn number(self) -> Option<u32> {
                match self {
                    $(Self::$variant => Some(hooks::Number::$variant as u32),)*
                    Self::Function(_) => None,
                }
            }
        }
    };
}
named_hooks!(hook);

/// The symbol of a kernel function. It lives as long as the process: a run names few, and each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionName(&'static str);

impl FunctionName {
    /// The symbol.
    #[must_use]
    pub fn new(symbol: &str) -> Self {
        static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        Self(known.get(symbol).copied().unwrap_or_else(|| {
            let symbol = Box::leak(Box::<str>::from(symbol));
            known.insert(symbol);
            symbol
        }))
    }

    /// The same as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// A function to attach to, as it was asked for: which symbol that is, and whether it may return the error, the kernel says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Function {
    /// `openat`, `__x64_sys_openat`, `open_ctree`.
    pub name: String,
    /// What it returns instead of being called; `None`: what its type suggests.
    pub error: Option<FunctionError>,
}

/// What a function returns instead of being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FunctionError {
    /// A negated error number.
    Errno(ErrorNumber),
    /// NULL.
    Null,
    /// The value 1.
    True,
}

/// Why a text names no function to fail.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FunctionNameError {
    /// Nothing there, or only an error.
    #[error("`{0}` names no function; write its name, and what it returns: open_ctree, openat=EINTR")]
    Empty(Foreign),
    /// No symbol has such a character.
    #[error(
        "function `{name}` has `{character}` in it, which no kernel symbol has; give --function once for each function"
    )]
    Character {
        /// The name.
        name: Foreign,
        /// The character.
        character: char,
    },
    /// Not what a function can return.
    #[error("function {name} can't return `{error}`; write an error (ENOMEM or 12), NULL or TRUE")]
    Error {
        /// The name.
        name: String,
        /// What it should return.
        error: Foreign,
    },
}

impl Function {
    /// Its name; of a system call, the same whether the call or its function is named.
    pub(super) fn bare_name(&self) -> &str {
        let prefixes = SYSCALL_FUNCTIONS.iter().copied().chain(["sys_"]);
        prefixes.into_iter().find_map(|prefix| self.name.strip_prefix(prefix)).unwrap_or(&self.name)
    }
}

impl FromStr for Function {
    type Err = FunctionNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, error) = match text.split_once('=') {
            Some((name, error)) => (name.trim(), Some(error.trim())),
            None => (text.trim(), None),
        };
        if name.is_empty() {
            return Err(FunctionNameError::Empty(text.into()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.$".contains(c);
        if let Some(character) = name.chars().find(|c| !allowed(*c)) {
            return Err(FunctionNameError::Character { name: name.into(), character });
        }
        let wrong = |error: &str| FunctionNameError::Error { name: name.to_owned(), error: error.into() };
        let error = error.map(|error| error.parse().map_err(|_| wrong(error))).transpose()?;
        Ok(Self { name: name.to_owned(), error })
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.error.map_or(Ok(()), |error| write!(f, "={error}"))
    }
}

impl FromStr for FunctionError {
    type Err = UnknownError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_uppercase().as_str() {
            "NULL" => Ok(Self::Null),
            "TRUE" => Ok(Self::True),
            _ => text.parse().map(Self::Errno),
        }
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(error) => error.fmt(f),
            Self::Null => f.write_str("NULL"),
            Self::True => f.write_str("TRUE"),
        }
    }
}

impl Serialize for FunctionError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// There is no such hook.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no hook `{name}` (hooks are: {}){}", Hook::names(), hint(.name))]
pub struct UnknownHook {
    name: Foreign,
}

fn hint(name: &str) -> String {
    match suggest::close(name, Hook::NAMED.map(Hook::name), 1) {
        close if close.is_empty() && !name.is_empty() => {
            "; for any other injectable function, use --function".to_owned()
        }
        close => suggest::did_you_mean(&close),
    }
}

impl Hook {
    /// Those of the allocators: what a run attaches to where nothing else is said.
    pub const MEMORY: [Self; 2] = [Self::Slab, Self::Page];

    /// The names of [`Hook::NAMED`], as messages list them.
    pub(crate) fn names() -> String {
        Self::NAMED.map(Self::name).join(", ")
    }

    /// Its row in the table of hooks; none of functions.
    #[must_use]
    pub fn row(self) -> Option<&'static Row> {
        hooks::NAMED.get(self.number()? as usize)
    }

    /// Whether its calls have GFP flags.
    #[must_use]
    pub fn has_gfp(self) -> bool {
        self.row().is_some_and(|row| row.arguments.gfp.is_some())
    }

    /// Whether its calls have an order and a size.
    #[must_use]
    pub fn has_size(self) -> bool {
        let has = |row: &Row| {
            let Arguments { gfp: _, cache, order, size } = row.arguments;
            cache.is_some() || order.is_some() || size.is_some()
        };
        self.row().is_some_and(has)
    }

    /// Whether a call of it can have an order and a size in these ranges: one follows from the other.
    #[must_use]
    pub(super) fn has_some(self, order: OrderRange, size: SizeRange) -> bool {
        // The largest of any kernel is far below.
        const LARGEST: u32 = 31;
        let ((least, most), (smallest, largest)) = (order.bounds(), size.bounds());
        if self.row().is_some_and(|row| row.arguments.order.is_some()) {
            return (least..=most.min(LARGEST)).any(|order| {
                let bytes = 1_u64 << (order + PAGE_SHIFT);
                (smallest..=largest).contains(&bytes)
            });
        }
        order_of_size(smallest) <= most && least <= order_of_size(largest)
    }

    /// Whether its calls have a slab cache.
    #[must_use]
    pub fn has_cache(self) -> bool {
        self.row().is_some_and(|row| row.arguments.cache.is_some())
    }

    /// Whether the error can be chosen. Of functions by name, the kernel says.
    #[must_use]
    pub fn has_errno(self) -> bool {
        self.row().is_none_or(|row| row.error_type == "ERRNO")
    }

    /// Whether no kernel lists its function, so that only the module injector_hooks can make it.
    #[must_use]
    pub fn is_module_only(self) -> bool {
        self.number().is_some_and(|number| matches!(number, hooks::VMALLOC | hooks::PERCPU))
    }

    /// Its name on the command line and in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Function(name) => name.as_str(),
            named => named.row().map_or("", |row| row.name),
        }
    }

    /// Its functions: a kernel lists one of them. Which one, [`crate::kernel::hooks::Injectable::function_of`] says.
    pub fn functions(self) -> impl Iterator<Item = &'static str> + Clone {
        let alternatives = self.row().map_or(&[][..], |row| row.alternatives);
        std::iter::once(self.function()).chain(alternatives.iter().map(|function| function.name))
    }

    /// Whether one of its functions has this symbol.
    #[must_use]
    pub fn has_function(self, symbol: &str) -> bool {
        self.functions().any(|function| function == symbol)
    }

    /// The first of its functions.
    #[must_use]
    pub fn function(self) -> &'static str {
        match self {
            Self::Function(name) => name.as_str(),
            named => named.row().map_or("", |row| row.function),
        }
    }

    /// The prototype that the eBPF side relies on, as BTF has it, for one of its functions; none of [`Hook::Function`].
    #[must_use]
    pub fn prototype(self, function: &str) -> Option<&'static str> {
        let row = self.row()?;
        if row.function == function {
            return Some(row.prototype);
        }
        row.alternatives.iter().find(|other| other.name == function).map(|other| other.prototype)
    }

    /// What this kernel must have been built with.
    #[must_use]
    pub fn needs(self) -> Option<Needs> {
        self.row()?.option
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Hook {
    type Err = UnknownHook;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        Self::NAMED
            .into_iter()
            .find(|hook| hook.name() == name || hook.has_function(name))
            .ok_or_else(|| UnknownHook { name: name.into() })
    }
}

impl<'de> Deserialize<'de> for Hook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Hook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for hook in Hook::NAMED {
            assert_eq!(hook.to_string().parse::<Hook>().unwrap(), hook);
        }
        assert_eq!("should_failslab".parse::<Hook>().unwrap(), Hook::Slab);
        let error = |name: &str| name.parse::<Hook>().unwrap_err().to_string();
        assert_eq!(
            error("slap"),
            "there is no hook `slap` (hooks are: slab, page, filemap, bio, page-pool, vmalloc, percpu); did you mean slab?"
        );
        assert_eq!(
            error("open_ctree"),
            "there is no hook `open_ctree` (hooks are: slab, page, filemap, bio, page-pool, vmalloc, percpu); for any other injectable function, use --function"
        );
        assert!(error("").ends_with("percpu)"));
    }

    fn function(text: &str) -> Result<Function, FunctionNameError> {
        text.parse()
    }

    #[test]
    fn functions() {
        let open = function("open_ctree").unwrap();
        assert_eq!((open.name.as_str(), open.error), ("open_ctree", None));
        for (text, error) in [
            ("openat=ENOMEM", FunctionError::Errno(ErrorNumber::ENOMEM)),
            ("openat = -12", FunctionError::Errno(ErrorNumber::ENOMEM)),
            ("page_pool_alloc_pages=NULL", FunctionError::Null),
            ("should_fail_alloc_page=true", FunctionError::True),
        ] {
            assert_eq!(function(text).unwrap().error, Some(error), "{text}");
        }
    }

    #[test]
    fn refused_functions() {
        for text in ["", "=ENOMEM", " "] {
            assert_eq!(function(text), Err(FunctionNameError::Empty(text.into())), "{text}");
        }
        for text in ["open*", "a,b", "a b", "openat()"] {
            assert!(matches!(function(text), Err(FunctionNameError::Character { .. })), "{text}");
        }
        assert_eq!(
            function("openat=FALSE").unwrap_err().to_string(),
            "function openat can't return `FALSE`; write an error (ENOMEM or 12), NULL or TRUE"
        );
        for text in ["f=", "f=0", "f=a=b"] {
            assert!(matches!(function(text), Err(FunctionNameError::Error { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(text in "[a-z_][a-z0-9_.]{0,10}(=(NULL|TRUE|[1-9][0-9]{0,2}))?") {
            let parsed = function(&text).unwrap();
            prop_assert_eq!(function(&parsed.to_string()), Ok(parsed));
        }

        #[test]
        fn never_panics(text in "[a-z=]*|\\PC*") {
            let _ = function(&text);
            let _ = text.parse::<Hook>();
        }
    }
}
