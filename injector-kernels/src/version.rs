//! Debian's kernel versions: how they are written and which of two is the newer.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// `6.12`: the kernels that get the same fixes, and the name of Debian's source package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    major: u32,
    minor: u32,
}

impl Series {
    /// `Series::new(6, 12)` is `6.12`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Its source package.
    #[must_use]
    pub fn source_package(self) -> String {
        format!("linux-source-{self}")
    }

    /// Where the source package has the source.
    #[must_use]
    pub fn source_tarball(self) -> String {
        format!("/usr/src/{}.tar.xz", self.source_package())
    }

    /// The series of `linux-source-6.12`.
    #[must_use]
    pub fn of_package(name: &str) -> Option<Self> {
        name.strip_prefix("linux-source-")?.parse().ok()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.major, self.minor))
    }
}

/// Two numbers, and nothing else.
#[derive(Debug, PartialEq, Eq)]
pub struct NotASeries;

impl FromStr for Series {
    type Err = NotASeries;

    fn from_str(text: &str) -> Result<Self, NotASeries> {
        let (major, minor) = text.split_once('.').ok_or(NotASeries)?;
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// Without the sign and the leading zeros that `u32::from_str` takes.
fn number(text: &str) -> Result<u32, NotASeries> {
    let number: u32 = text.parse().map_err(|_| NotASeries)?;
    if number.to_string() == text { Ok(number) } else { Err(NotASeries) }
}

/// `6.12.117-1~deb12u1`: the version of a source package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    text: String,
    series: Series,
}

impl Version {
    /// Its series.
    #[must_use]
    pub fn series(&self) -> Series {
        self.series
    }

    /// What the kernel's authors and what Debian's numbered.
    fn parts(&self) -> (&str, &str) {
        self.text.rsplit_once('-').unwrap_or((&self.text, ""))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Not a version with Debian's revision.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAVersion;

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let (upstream, revision) = text.rsplit_once('-').ok_or(NotAVersion)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".+~-".contains(c);
        if !text.chars().all(allowed) || !revision.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(NotAVersion);
        }
        // The series is all of `7.4`, and starts `6.12.117` and `7.4~rc1`.
        let end = upstream.match_indices(['.', '~']).map(|(at, _)| at).find(|at| upstream[..*at].contains('.'));
        let series = upstream[..end.unwrap_or(upstream.len())].parse().map_err(|_| NotAVersion)?;
        Ok(Self { text: text.to_owned(), series })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((ours, our_revision), (theirs, their_revision)) = (self.parts(), other.parts());
        compare(ours, theirs)
            .then_with(|| compare(our_revision, their_revision))
            // Debian takes 1.0 and 1.00 for the same; two names in the cache are not.
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of deb-version(7): text and numbers in turns; `~` stands before the end of the text, letters before the rest.
fn compare(mut a: &str, mut b: &str) -> Ordering {
    loop {
        let order = split(&mut a, |c| !c.is_ascii_digit(), text_order, &mut b);
        if order.is_ne() {
            return order;
        }
        let order = split(&mut a, |c| c.is_ascii_digit(), number_order, &mut b);
        if order.is_ne() || (a.is_empty() && b.is_empty()) {
            return order;
        }
    }
}

/// Takes what `wanted` accepts off both, and compares that.
fn split(a: &mut &str, wanted: fn(char) -> bool, order: fn(&str, &str) -> Ordering, b: &mut &str) -> Ordering {
    let take = |text: &mut &str| {
        let (taken, rest) = text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()));
        *text = rest;
        taken.to_owned()
    };
    order(&take(a), &take(b))
}

fn text_order(a: &str, b: &str) -> Ordering {
    let weights = |text: &str| {
        text.chars()
            .map(|c| match c {
                '~' => -1,
                c if c.is_ascii_alphabetic() => i64::from(u32::from(c)),
                c => i64::from(u32::from(c)) + 0x10000,
            })
            .chain([0])
            .collect::<Vec<_>>()
    };
    weights(a).cmp(&weights(b))
}

fn number_order(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn versions_are_ordered_as_dpkg_does() {
        let rising = [
            "5.10.262-1",
            "6.1.192-1",
            "6.1.192-2",
            "6.12.9-1",
            "6.12.95-1~bpo12+1",
            "6.12.117-1~deb12u1",
            "6.12.117-1~deb12u2",
            "6.12.117-1",
            "6.12.117-1+b1",
            "6.12.117-10",
            "7.3~rc5-1~exp1",
            "7.3-1",
            "7.3.4-1~bpo13+1",
            "7.3.4-1",
            "7.10-1",
        ];
        for (i, low) in rising.iter().enumerate() {
            for high in &rising[i + 1..] {
                assert!(version(low) < version(high), "{low} {high}");
            }
            assert_eq!(version(low).cmp(&version(low)), Ordering::Equal);
        }
    }

    #[test]
    fn a_version_has_a_series() {
        for (text, series) in
            [("6.12.117-1~deb12u1", "6.12"), ("7.4-1", "7.4"), ("7.4~rc1-1~exp1", "7.4"), ("6.1.9-1", "6.1")]
        {
            assert_eq!(version(text).series().to_string(), series);
        }
    }

    #[test]
    fn other_texts_are_no_versions() {
        for text in ["6.12", "6.12.117", "6.12-", "6.12-debug", "six-1", "6.12.1-1/../..", "6.12.1-1 2", "", "-1"] {
            assert_eq!(text.parse::<Version>(), Err(NotAVersion), "{text}");
        }
        for text in ["6", "6.", "6.12.1", "6.012", "+6.1", "6.1-1", ""] {
            assert_eq!(text.parse::<Series>(), Err(NotASeries), "{text}");
        }
    }

    #[test]
    fn series_are_ordered_by_their_numbers() {
        assert!(Series::new(6, 1) < Series::new(6, 12) && Series::new(6, 12) < Series::new(7, 0));
        assert_eq!(Series::of_package("linux-source-6.12"), Some(Series::new(6, 12)));
        assert_eq!(Series::of_package("linux-source"), None);
    }
}
