//! Shell globs.

/// A shell glob over bytes: `*`, `?`, `[a-z]`, `[!a-z]` (ASCII inside the brackets).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob {
    pub(crate) tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Token {
    Byte(u8),
    AnyByte,
    AnyBytes,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Token {
    /// Whether it can take this byte.
    pub(crate) fn matches(&self, byte: u8) -> bool {
        match self {
            Self::Byte(b) => *b == byte,
            Self::AnyByte => true,
            Self::AnyBytes => false,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&byte)) != *negated
            }
        }
    }
}

impl Glob {
    /// Reads one. `None`: a bracket is unfinished or empty, or has something in it that is no ASCII.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let mut tokens = Vec::new();
        let mut i = 0;
        while let Some(&byte) = bytes.get(i) {
            i += 1;
            match byte {
                b'?' => tokens.push(Token::AnyByte),
                b'*' if tokens.last() == Some(&Token::AnyBytes) => {}
                b'*' => tokens.push(Token::AnyBytes),
                b'[' => {
                    let length = bytes[i..].iter().position(|b| *b == b']')?;
                    tokens.push(class(&bytes[i..i + length])?);
                    i += length + 1;
                }
                _ => tokens.push(Token::Byte(byte)),
            }
        }
        Some(Self { tokens })
    }

    /// Whether it is a plain name.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.tokens.iter().all(|token| matches!(token, Token::Byte(_)))
    }

    /// How long a name must at least be to match.
    #[must_use]
    pub fn min_len(&self) -> usize {
        self.tokens.iter().filter(|token| **token != Token::AnyBytes).count()
    }

    /// Whether a name that matches still does with anything after it.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        self.tokens.last() == Some(&Token::AnyBytes)
    }

    /// Whether it surely matches all that another glob matches: of the globs that do, those of the form `prefix*`.
    #[must_use]
    pub(crate) fn covers(&self, other: &Self) -> bool {
        if self == other || (other.is_literal() && self.matches_bytes(&other.literal())) {
            return true;
        }
        let Some((Token::AnyBytes, prefix)) = self.tokens.split_last() else { return false };
        let is_literal = prefix.iter().all(|token| matches!(token, Token::Byte(_)));
        is_literal && other.tokens.starts_with(prefix)
    }

    /// The bytes that it begins with.
    fn literal(&self) -> Vec<u8> {
        let byte = |token: &Token| if let Token::Byte(byte) = token { Some(*byte) } else { None };
        self.tokens.iter().map_while(byte).collect()
    }

    /// Whether the name is meant.
    ///
    /// On a mismatch, only the latest `*` has to take one byte more: the time is at most name times pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.matches_bytes(name.as_bytes())
    }

    /// The same of a name that may be no text.
    #[must_use]
    pub fn matches_bytes(&self, name: &[u8]) -> bool {
        let (mut n, mut t) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match self.tokens.get(t) {
                Some(Token::AnyBytes) => {
                    t += 1;
                    retry = Some((n, t));
                }
                Some(token) if token.matches(name[n]) => {
                    n += 1;
                    t += 1;
                }
                _ => {
                    let Some((start, after)) = retry else { return false };
                    n = start + 1;
                    t = after;
                    retry = Some((n, t));
                }
            }
        }
        self.tokens[t..].iter().all(|token| *token == Token::AnyBytes)
    }
}

fn class(inside: &[u8]) -> Option<Token> {
    let (negated, inside) = match inside {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, inside),
    };
    if !inside.is_ascii() {
        return None;
    }
    let mut ranges = Vec::new();
    let mut rest = inside;
    loop {
        match rest {
            [first, b'-', last, tail @ ..] => {
                if first > last {
                    return None;
                }
                ranges.push((*first, *last));
                rest = tail;
            }
            [one, tail @ ..] => {
                ranges.push((*one, *one));
                rest = tail;
            }
            [] if ranges.is_empty() => return None,
            [] => return Some(Token::Class { negated, ranges }),
        }
    }
}
