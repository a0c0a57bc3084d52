//! Text that came from outside: arguments, names in files, what a journal says. Messages show it through this module, so that
//! it can't steer a terminal, break a line, or fill the screen.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io::{self, Write},
    ops::Deref,
    path::Path,
};

/// A text from outside. [`fmt::Display`] shows it on one line, with what a terminal would obey escaped, and shortened to
/// [`Foreign::SHOWN`] characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foreign(Box<str>);

impl Foreign {
    /// How many characters are shown.
    pub const SHOWN: usize = 200;

    /// A path.
    #[must_use]
    pub fn path(path: &Path) -> Self {
        path.to_string_lossy().into()
    }
}

impl<T: Into<Box<str>>> From<T> for Foreign {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl Deref for Foreign {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((end, _)) = self.0.char_indices().nth(Self::SHOWN) else {
            return self.0.chars().try_for_each(|c| put(f, c));
        };
        self.0[..end].chars().try_for_each(|c| put(f, c))?;
        write!(f, "… ({} characters)", self.0.chars().count())
    }
}

fn put(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '\n' | '\r' | '\t' => write!(f, "{}", c.escape_default()),
        c if steers(c) => write!(f, "{}", c.escape_unicode()),
        c => f.write_char(c),
    }
}

/// Whether a terminal does something else with this character than to show it: control characters, separators of lines,
/// and the marks that change the direction of a text or can't be seen.
#[must_use]
pub fn steers(c: char) -> bool {
    let hidden = matches!(c,
        '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    c.is_control() || hidden
}

/// A text of one line for a terminal: nothing in it steers one.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !steers(c))
}

/// The same for a text of several lines: line feeds and tabs stay.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t') || !steers(c))
}

/// Writes a text of several lines for a terminal, whatever gets into it.
///
/// # Errors
/// It can't be written.
pub fn write_lines(out: &mut dyn Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::new();
    write(&mut bytes)?;
    out.write_all(lines(&String::from_utf8_lossy(&bytes)).as_bytes())?;
    out.flush()
}

/// A text of one line for a terminal, with a `?` for each character that would steer one: where columns must stay narrow.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    if text.contains(steers) { Cow::Owned(text.replace(steers, "?")) } else { Cow::Borrowed(text) }
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&stays) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if stays(c) => out.push(c),
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            c => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_steers_is_escaped() {
        assert_eq!(Foreign::from("NOFS").to_string(), "NOFS");
        assert_eq!(Foreign::from("a\x1b[2J\n\u{202e}b\u{9b}é").to_string(), "a\\u{1b}[2J\\n\\u{202e}b\\u{9b}é");
        assert_eq!(line("a\nb"), "a\\nb");
        assert_eq!(lines("a\n\tb\x07"), "a\n\tb\\u{7}");
        assert!(matches!(line("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = Foreign::from("é".repeat(100_000));
        assert_eq!(long.to_string(), format!("{}… (100000 characters)", "é".repeat(Foreign::SHOWN)));
        assert_eq!(long.len(), 200_000, "the text itself is whole");
    }

    proptest! {
        #[test]
        fn nothing_steers(text: String) {
            let shown = Foreign::from(text.as_str()).to_string();
            prop_assert!(!shown.chars().any(steers), "{shown:?}");
            prop_assert!(!line(&text).chars().any(steers));
            prop_assert!(!lines(&text).chars().any(|c| steers(c) && c != '\n' && c != '\t'));
        }
    }
}
