//! Whole numbers.

use std::str::FromStr;

use crate::foreign::Foreign;

/// Not the number that is wanted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not {what}")]
pub struct NotANumber {
    text: Foreign,
    what: &'static str,
}

/// Reads a decimal number. `what` ends the message if it is none: "a number of sites; write a whole number".
///
/// # Errors
/// It isn't one, or the type can't hold it.
pub fn parse<T: FromStr>(text: &str, what: &'static str) -> Result<T, NotANumber> {
    let error = || NotANumber { text: text.into(), what };
    let digits = text.trim();
    // Unlike `from_str` without `+`: no number has two notations.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error());
    }
    digits.parse().map_err(|_| error())
}

/// Reads a decimal number, or a hexadecimal one that starts with `0x`.
pub(crate) fn hex_or_decimal(text: &str) -> Option<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    #[test]
    fn notations() {
        assert_eq!(parse::<u32>(" 7 ", "a number"), Ok(7));
        assert_eq!(parse::<u8>("256", "a byte").unwrap_err().to_string(), "`256` is not a byte");
        assert!(parse::<NonZeroU64>("0", "a number").is_err());
        for text in ["", "-1", "+1", "1.0", "0x1", "1_000", "x"] {
            assert!(parse::<u64>(text, "a number").is_err(), "{text}");
        }
        assert_eq!(hex_or_decimal("0x1F"), Some(31));
        assert_eq!(hex_or_decimal("31"), Some(31));
        for text in ["", "0x", "1f", "0x+1", "+1", "-1", "0x10000000000000000"] {
            assert_eq!(hex_or_decimal(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(number: u64) {
            prop_assert_eq!(parse::<u64>(&number.to_string(), "a number"), Ok(number));
            prop_assert_eq!(hex_or_decimal(&format!("{number:#x}")), Some(number));
        }

        #[test]
        fn never_panics(text in "[0-9x+-]*|\\PC*") {
            let _ = parse::<u64>(&text, "a number");
            let _ = hex_or_decimal(&text);
        }
    }
}
