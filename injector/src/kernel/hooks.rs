//! Which functions this kernel lets be overridden, and with which errors: `error_injection/list` in debugfs.

use std::fmt;

use super::{KernelError, KernelFiles};
use crate::plan::Hook;

/// What a function may be made to return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// NULL.
    Null,
    /// A negative error number.
    Errno,
    /// Either.
    ErrnoNull,
    /// 1.
    True,
    /// A word that this program does not know.
    Other(String),
}

/// The functions that may be overridden.
#[derive(Clone, Debug, Default)]
pub struct Injectable(Vec<(String, ErrorType)>);

/// The file, from the root.
pub const LIST: &str = "sys/kernel/debug/error_injection/list";

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
            let name = symbol.split([' ', '+']).next()?;
            Some((name.to_owned(), ErrorType::from(kind.trim())))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// How the function may fail; `None`: not at all.
    #[must_use]
    pub fn error_type(&self, function: &str) -> Option<&ErrorType> {
        self.0.iter().find(|(name, _)| name == function).map(|(_, error_type)| error_type)
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
        f.write_str(match self {
            Self::Null => "NULL",
            Self::Errno => "ERRNO",
            Self::ErrnoNull => "ERRNO_NULL",
            Self::True => "TRUE",
            Self::Other(word) => word,
        })
    }
}

impl Hook {
    /// How the kernel must say that the function may fail, for what the eBPF side returns to be safe.
    #[must_use]
    pub fn error_type(self) -> ErrorType {
        match self {
            Self::Slab | Self::Filemap | Self::Bio | Self::Function(_) => ErrorType::Errno,
            Self::Page => ErrorType::True,
            Self::PagePool => ErrorType::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed() {
        let list = Injectable::parse(
            "should_failslab\tERRNO\nopen_ctree [btrfs]\tERRNO\nshould_fail_alloc_page\tTRUE\nf+0x0/0x10\tODD\n",
        );
        assert_eq!(list.error_type("should_failslab"), Some(&Hook::Slab.error_type()));
        assert_eq!(list.error_type("open_ctree"), Some(&ErrorType::Errno));
        assert_eq!(list.error_type("should_fail_alloc_page"), Some(&Hook::Page.error_type()));
        assert_eq!(list.error_type("f"), Some(&ErrorType::Other("ODD".to_owned())));
        assert_eq!(list.error_type("should_fail"), None);
        assert_eq!(list.len(), 4);
    }
}
