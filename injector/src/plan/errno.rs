//! Error numbers that a failed call can return.

use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;
use serde::{Serialize, Serializer};

use super::{number, suggest};
use crate::foreign::Foreign;

/// An error number, from 1 to [`ErrorNumber::MAX`]; the call returns it negated. Written `ENOMEM`, `-ENOMEM` or `12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorNumber(u16);

/// There is no such error.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownError {
    /// Neither a name nor a number.
    #[error("there is no error `{0}`; write a name (ENOMEM, EIO, ENOSPC…) or a number from 1 to 4095{hint}", hint = hint(.0))]
    Unknown(Foreign),
    /// What a system call returns in user space, whatever the error is.
    #[error(
        "-1 is not an error number of the kernel's; write a name (ENOMEM, EIO, ENOSPC…), or EPERM if that is meant"
    )]
    MinusOne,
}

fn hint(name: &str) -> String {
    suggest::did_you_mean(&suggest::close(name, names().iter().map(|(_, name)| name.as_str()), 3))
}

/// Second names of an error.
const ALIASES: [(&str, &str); 3] = [("EWOULDBLOCK", "EAGAIN"), ("EDEADLOCK", "EDEADLK"), ("ENOTSUP", "EOPNOTSUPP")];

/// The errors that have names in user space; the kernel has a few more, that no program ever sees.
fn names() -> Vec<(u16, String)> {
    let named = |number: u16| (number, Errno::from_raw(number.into()));
    let known = (1..=ErrorNumber::LAST_NAMED).map(named).filter(|(_, errno)| *errno != Errno::UnknownErrno);
    known.map(|(number, errno)| (number, format!("{errno:?}"))).collect()
}

impl ErrorNumber {
    /// `MAX_ERRNO` (include/linux/err.h, 6.12).
    pub const MAX: u16 = 4095;
    /// Out of memory.
    pub const ENOMEM: Self = Self(12);
    /// Is there already.
    pub const EEXIST: Self = Self(17);
    /// EHWPOISON.
    const LAST_NAMED: u16 = 133;

    /// The error of this number.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// What the kernel function returns.
    #[must_use]
    pub fn result(self) -> i32 {
        -i32::from(self.0)
    }
}

impl FromStr for ErrorNumber {
    type Err = UnknownError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text == "-1" {
            return Err(UnknownError::MinusOne);
        }
        // Kernel code says `return -ENOMEM`.
        let bare = text.strip_prefix('-').unwrap_or(text).to_ascii_uppercase();
        let bare = ALIASES.iter().find(|(alias, _)| *alias == bare).map_or(bare.as_str(), |(_, name)| name);
        let found = number::parse(bare, "")
            .ok()
            .or_else(|| names().into_iter().find(|(_, name)| name == bare).map(|(number, _)| number))
            .and_then(Self::new);
        found.ok_or_else(|| UnknownError::Unknown(text.into()))
    }
}

impl fmt::Display for ErrorNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Errno::from_raw(self.0.into()) {
            Errno::UnknownErrno => self.0.fmt(f),
            errno => write!(f, "{errno:?}"),
        }
    }
}

impl Serialize for ErrorNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<ErrorNumber, UnknownError> {
        text.parse()
    }

    #[test]
    fn notations() {
        for text in ["ENOMEM", "12", "-ENOMEM", "enomem", "-12", " ENOMEM "] {
            assert_eq!(parse(text), Ok(ErrorNumber::ENOMEM), "{text}");
        }
        assert_eq!(parse("EWOULDBLOCK").unwrap().to_string(), "EAGAIN");
        assert_eq!(parse("EHWPOISON").unwrap().get(), ErrorNumber::LAST_NAMED);
        // ERESTARTSYS has no name in user space.
        assert_eq!(parse("512").unwrap().to_string(), "512");
        assert_eq!(ErrorNumber::ENOMEM.result(), -12);
    }

    #[test]
    fn refused() {
        assert_eq!(
            parse("ENOMEN").unwrap_err().to_string(),
            "there is no error `ENOMEN`; write a name (ENOMEM, EIO, ENOSPC…) or a number from 1 to 4095; did you mean ENOMEM, ENOENT, ENOMEDIUM?"
        );
        assert_eq!(parse(" -1 "), Err(UnknownError::MinusOne));
        for text in ["", "-", "0", "4096", "--12", "NULL", "99999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(number in 1..=ErrorNumber::MAX) {
            let error = ErrorNumber::new(number).unwrap();
            prop_assert_eq!(parse(&error.to_string()), Ok(error));
            prop_assert_eq!(parse(&format!("-{number}")), if number == 1 { Err(UnknownError::MinusOne) } else { Ok(error) });
        }

        #[test]
        fn never_panics(text in "[E0-9-]*|\\PC*") {
            let _ = parse(&text);
        }
    }
}
