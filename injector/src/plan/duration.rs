//! Spans of time: `500ms`, `10s`, `1m30s`.

use std::time::Duration;

use serde::Serializer;

use crate::foreign::Foreign;

/// Why a text is no span of time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DurationError {
    /// A number without a unit.
    #[error("`{0}` needs a unit: {0}s, {0}ms, {0}m")]
    NoUnit(Foreign),
    /// Anything else.
    #[error("`{text}` is not a time ({reason}); write a number with a unit: 10s, 500ms, 2m, 1m30s")]
    NotATime {
        /// What was given.
        text: Foreign,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads a span of time.
///
/// # Errors
/// The text is not one.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.bytes().any(|b| b != b'0') {
        return Err(DurationError::NoUnit(text.into()));
    }
    humantime::parse_duration(text)
        .map_err(|error| DurationError::NotATime { text: text.into(), reason: error.to_string() })
}

/// Writes a span of time so that [`parse`] reads it.
#[must_use]
pub fn format(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format(*duration))
}

pub(super) fn serialize_option<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serialize(duration, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn notations() {
        assert_eq!(parse("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(format(Duration::from_secs(90)), "1m30s");
    }

    #[test]
    fn refused() {
        assert_eq!(parse("10").unwrap_err().to_string(), "`10` needs a unit: 10s, 10ms, 10m");
        for text in ["", "s", "-1s", "1x", "soon", "99999999999999999999s"] {
            assert!(matches!(parse(text), Err(DurationError::NotATime { .. })), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(ms in 0u64..1 << 40) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }

        #[test]
        fn never_panics(text in "[0-9a-z ]*|\\PC*") {
            let _ = parse(&text);
        }
    }
}
