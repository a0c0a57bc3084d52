//! How the program ends: exit codes, and errors that carry one.
//!
//! Verbs, and everything below them that can fail, return this module's [`Result`]. Its [`Error`] is only made from errors
//! that have an exit code ([`HasExitCode`]). An error without a code does not compile.

use std::{
    ffi::NulError,
    fmt, io,
    num::{ParseIntError, TryFromIntError},
};

/// What the process exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub i32);

impl ExitCode {
    /// Success.
    pub const OK: Self = Self(0);
    /// A sweep has findings, a replay reproduced nothing, two runs differ. It is no error's.
    pub const FINDINGS: Self = Self(1);
    /// The input is wrong.
    pub const USAGE: Self = Self(2);
    /// This machine or the guest lacks something.
    pub const MISSING: Self = Self(3);
    /// A sweep was interrupted. Its journal is whole.
    pub const INTERRUPTED: Self = Self(4);
    /// A sweep failed no site: it says nothing about the kernel.
    pub const NOTHING_FAILED: Self = Self(5);
    /// The injector or the kernel failed (EX_SOFTWARE of sysexits.h).
    pub const INTERNAL: Self = Self(70);
    /// Input or output failed: the disk is full, a device is broken (EX_IOERR of sysexits.h).
    pub const IO: Self = Self(74);
    /// A sweep damaged the kernel and can continue after a boot (EX_TEMPFAIL of sysexits.h).
    pub const REBOOT: Self = Self(75);

    /// That of a file which an argument names: wrong input if the name is what is wrong.
    #[must_use]
    pub fn of_file(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound
            | Kind::PermissionDenied
            | Kind::AlreadyExists
            | Kind::IsADirectory
            | Kind::NotADirectory
            | Kind::InvalidInput
            | Kind::InvalidFilename
            | Kind::InvalidData => Self::USAGE,
            _ => Self::IO,
        }
    }
}

/// An error that knows the exit code of a program that it ends.
pub trait HasExitCode: std::error::Error + Send + Sync + 'static {
    /// The exit code.
    fn exit_code(&self) -> ExitCode;
}

/// Gives error types their exit code: `has_exit_code!(BadAddress, BadPath => USAGE)`. With `Io or USAGE`, the variant `Io` has
/// that of its file.
macro_rules! has_exit_code {
    ($error:ty => Io or $code:ident) => {
        impl $crate::exit::HasExitCode for $error {
            fn exit_code(&self) -> $crate::exit::ExitCode {
                match self {
                    Self::Io { error, .. } => $crate::exit::ExitCode::of_file(error),
                    _ => $crate::exit::ExitCode::$code,
                }
            }
        }
    };
    ($($error:ty),+ => $code:ident) => {
        $(impl $crate::exit::HasExitCode for $error {
            fn exit_code(&self) -> $crate::exit::ExitCode {
                $crate::exit::ExitCode::$code
            }
        })+
    };
}
pub(crate) use has_exit_code;

// Where the cause is the user's input, the caller wraps these in an error that says so.
has_exit_code!(io::Error => IO);
has_exit_code!(nix::Error, serde_json::Error, NulError, ParseIntError, TryFromIntError => INTERNAL);

/// An error with its exit code, and with what was being done when it happened.
pub struct Error {
    code: ExitCode,
    chain: anyhow::Error,
}

/// Of what can end the program.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that needs no type, because nothing but the user looks at it.
    pub fn new(code: ExitCode, message: impl fmt::Display) -> Self {
        Self { code, chain: anyhow::anyhow!("{message}") }
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        self.code
    }

    fn context(self, what: String) -> Self {
        Self { code: self.code, chain: self.chain.context(what) }
    }
}

impl<E: HasExitCode> From<E> for Error {
    fn from(error: E) -> Self {
        Self { code: error.exit_code(), chain: error.into() }
    }
}

impl fmt::Display for Error {
    /// With `{:#}`, the causes follow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chain.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.chain, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.chain.source()
    }
}

/// Says what was being done when an error happened. The exit code stays that of the error.
pub trait Context<T> {
    /// Puts a message before the error's own.
    ///
    /// # Errors
    /// The same error.
    fn context(self, what: impl fmt::Display) -> Result<T>;

    /// The same with a message that is only made if there is an error.
    ///
    /// # Errors
    /// The same error.
    fn with_context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.with_context(|| what)
    }

    fn with_context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().context(what().to_string()))
    }
}

/// Nothing where something must be: a defect of the injector.
impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.with_context(|| what)
    }

    fn with_context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.ok_or_else(|| Error::new(ExitCode::INTERNAL, what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("`{0}` is not an address")]
    struct BadAddress(&'static str);

    has_exit_code!(BadAddress => USAGE);

    #[test]
    fn context_keeps_the_code_and_the_cause() {
        let error = Err::<(), _>(BadAddress("x")).context("can't listen").with_context(|| "can't start").unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::USAGE);
        assert_eq!(format!("{error:#}"), "can't start: can't listen: `x` is not an address");
        assert_eq!(error.to_string(), "can't start");
    }

    #[test]
    fn nothing_is_internal() {
        let error = None::<u8>.context("no map CALLS").unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (ExitCode::INTERNAL, "no map CALLS"));
    }
}
