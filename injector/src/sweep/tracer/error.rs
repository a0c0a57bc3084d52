//! Errors that system calls return.

use std::fmt;

use injector_common::attempt::is_error;
use nix::errno::Errno;

use crate::journal::record::Outcome;

/// An error by its number; not every one has a name in user space, and some come out of the kernel all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Error(pub i32);

impl Error {
    /// What a system call returned, if that [is an error](is_error).
    #[must_use]
    pub fn of(result: i64) -> Option<Self> {
        if !is_error(result) {
            return None;
        }
        i32::try_from(-result).ok().map(Self)
    }

    /// What the call returned.
    #[must_use]
    pub fn result(self) -> i64 {
        -i64::from(self.0)
    }

    /// What it says of a failure in the call.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        Outcome::of_error(self.to_string())
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self(errno as i32)
    }
}

/// As in the manual pages: `ENOMEM`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (Errno::from_raw(self.0), self.0) {
            // Not meant for user space (include/linux/errno.h, 6.12), and the one of those that gets there.
            (Errno::UnknownErrno, 524) => f.write_str("ENOTSUPP"),
            (Errno::UnknownErrno, number) => write!(f, "error {number}"),
            (errno, _) => write!(f, "{errno:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_error() {
        assert_eq!(Error::of(-12), Some(Errno::ENOMEM.into()));
        assert_eq!(
            Error::of(-117).map(|error| (error.to_string(), error.result())),
            Some(("EUCLEAN".to_owned(), -117))
        );
        for none in [0, 7, i64::MIN, -4096, -512, -516, -(Errno::EINPROGRESS as i64)] {
            assert_eq!(Error::of(none), None, "{none}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(Error(12).to_string(), "ENOMEM");
        assert_eq!(Error(524).to_string(), "ENOTSUPP");
        assert_eq!(Error(530).to_string(), "error 530");
    }
}
