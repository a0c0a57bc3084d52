//! What a sweep says of a site.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oracle::Kind;

/// Verdicts by rank: of several failures at one site, the worst counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Was never failed.
    #[default]
    Unreached,
    /// User space got ENOMEM, and all was well afterwards.
    Clean,
    /// User space did not notice.
    Masked,
    /// User space got another error, or the program ended with one.
    Error,
    /// The same error came again and again afterwards.
    Wedged,
    /// Memory was lost.
    Leak,
    /// The kernel warned.
    Warning,
    /// Something did not come to an end.
    Hang,
    /// The kernel crashed, or would have without its checks.
    Oops,
}

impl Verdict {
    /// All of them, by rank.
    pub const ALL: [Self; 9] = [
        Self::Unreached,
        Self::Clean,
        Self::Masked,
        Self::Error,
        Self::Wedged,
        Self::Leak,
        Self::Warning,
        Self::Hang,
        Self::Oops,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreached => "unreached",
            Self::Clean => "clean",
            Self::Masked => "masked",
            Self::Error => "error",
            Self::Wedged => "wedged",
            Self::Leak => "leak",
            Self::Warning => "warning",
            Self::Hang => "hang",
            Self::Oops => "oops",
        }
    }

    /// Whether the kernel did wrong: what a maintainer must look at.
    #[must_use]
    pub fn is_finding(self) -> bool {
        self >= Self::Leak
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Kind> for Verdict {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Warning => Self::Warning,
            Kind::Hang => Self::Hang,
            Kind::Leak => Self::Leak,
            Kind::Oops => Self::Oops,
        }
    }
}
