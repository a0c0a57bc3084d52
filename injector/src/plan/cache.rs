//! Slab caches by name.

use serde::{Serialize, Serializer};

use super::Glob;

/// Slab caches whose name matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CachePattern {
    text: String,
    glob: Glob,
}

impl CachePattern {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same as a glob.
    #[must_use]
    pub fn glob(&self) -> &Glob {
        &self.glob
    }
}

impl Serialize for CachePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
