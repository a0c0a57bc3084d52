//! The kernel sources that Debian's archive has.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::archive::{Answers, Archive, Download, SUITES};
use crate::bad_input;
use crate::version::{Series, Version};

/// A source package that a suite has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its version.
    pub version: Version,
    /// The suite.
    pub suite: &'static str,
}

impl Offer {
    /// Gets its package.
    ///
    /// # Errors
    /// It can't be had.
    pub fn download(&self, archive: &Archive) -> Result<Download> {
        let Self { version, suite } = self;
        let package = version.series().source_package();
        eprintln!("archive: getting {package} {version} from {suite}");
        archive.download(suite, &[format!("{package}={version}")])
    }
}

/// All source packages of the suites that the archive serves.
#[derive(Debug, Default)]
pub struct Offers {
    offers: Vec<Offer>,
    /// The other suites, and why.
    not_served: Vec<(&'static str, String)>,
}

impl Offers {
    /// Asks all suites what they have now.
    ///
    /// # Errors
    /// If a suite's signature does not fit.
    pub fn ask(archive: &Archive) -> Result<Self> {
        eprintln!("archive: asking Debian's suites for kernel sources");
        let Answers { answers, not_served } = archive.ask(&SUITES, |lists| {
            let mut names = lists.names("linux-source-")?;
            names.retain(|name| Series::of_package(name).is_some());
            let packages = lists.show(&names)?;
            Ok(packages.iter().filter_map(|package| package.version.parse().ok()).collect::<Vec<Version>>())
        })?;
        let of_suite = |(suite, versions): (&'static str, Vec<Version>)| {
            versions.into_iter().map(move |version| Offer { version, suite })
        };
        Ok(Self { offers: answers.into_iter().flat_map(of_suite).collect(), not_served })
    }

    /// Says which suites could not be asked: they might have something newer.
    pub fn warn(&self) {
        for (suite, why) in &self.not_served {
            eprintln!("archive: {suite} is not served: {why}");
        }
    }

    /// The newest kernel of the newest series.
    ///
    /// # Errors
    /// Debian has none.
    pub fn newest(&self) -> Result<&Offer> {
        let newest = self.offers.iter().max_by(|a, b| a.version.cmp(&b.version));
        newest.ok_or_else(|| self.nothing())
    }

    fn nothing(&self) -> anyhow::Error {
        bad_input(format!("no kernel source can be had from Debian's archive{}", self.but()))
    }

    /// The newest kernel of a series.
    ///
    /// # Errors
    /// Debian has none of this series.
    pub fn newest_of(&self, series: Series) -> Result<&Offer> {
        let of_series = self.offers.iter().filter(|offer| offer.version.series() == series);
        of_series.max_by(|a, b| a.version.cmp(&b.version)).ok_or_else(|| {
            if self.offers.is_empty() {
                return self.nothing();
            }
            let all: BTreeSet<Series> = self.offers.iter().map(|offer| offer.version.series()).collect();
            bad_input(format!("no kernel {series} in Debian: there are {}{}", list(all.into_iter()), self.but()))
        })
    }

    /// The kernel of this version.
    ///
    /// # Errors
    /// Debian does not have it.
    pub fn exactly(&self, version: &Version) -> Result<&Offer> {
        self.offers.iter().find(|offer| offer.version == *version).ok_or_else(|| {
            let series = version.series();
            let close: BTreeSet<&Version> =
                self.offers.iter().map(|offer| &offer.version).filter(|known| known.series() == series).collect();
            if close.is_empty() {
                return self.newest_of(series).err().unwrap_or_else(|| bad_input(format!("no kernel {version}")));
            }
            let close = list(close.into_iter().rev());
            bad_input(format!("no kernel {version} in Debian: of {series} there are {close}{}", self.but()))
        })
    }

    /// One line for each series: its versions, newest first, with the suites that have them.
    ///
    /// # Errors
    /// Debian has none.
    pub fn lines(&self) -> Result<Vec<String>> {
        self.newest()?;
        let mut all: BTreeMap<Series, BTreeMap<&Version, Vec<&str>>> = BTreeMap::new();
        for Offer { version, suite } in &self.offers {
            all.entry(version.series()).or_default().entry(version).or_default().push(suite);
        }
        let shown = |(version, suites): (&&Version, &Vec<&str>)| format!("{version} ({})", suites.join(", "));
        let line = |(series, versions): (&Series, &BTreeMap<&Version, Vec<&str>>)| {
            format!("{series:<6} {}", list(versions.iter().rev().map(shown)))
        };
        Ok(all.iter().rev().map(line).collect())
    }

    /// The end of a complaint: suites that could not be asked might have had it.
    fn but(&self) -> String {
        if self.not_served.is_empty() {
            return String::new();
        }
        let suites = list(self.not_served.iter().map(|(suite, why)| format!("{suite} ({why})")));
        format!("; not served: {suites}")
    }
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BadInput;

    fn offers(all: &[(&'static str, &str)]) -> Offers {
        let offer = |(suite, version): &(&'static str, &str)| Offer { version: version.parse().unwrap(), suite };
        Offers { offers: all.iter().map(offer).collect(), not_served: Vec::new() }
    }

    fn some() -> Offers {
        offers(&[
            ("trixie", "6.12.117-1"),
            ("bookworm-security", "6.12.117-1~deb12u1"),
            ("trixie-security", "6.12.117-1"),
            ("bookworm", "6.1.176-1"),
            ("sid", "7.2.13-1"),
            ("trixie-backports", "7.3.4-1~bpo13+1"),
        ])
    }

    #[test]
    fn the_newest_is_found_whatever_suite_has_it() {
        let some = some();
        assert_eq!(some.newest().unwrap().version.to_string(), "7.3.4-1~bpo13+1");
        assert_eq!(some.newest_of(Series::new(6, 12)).unwrap().version.to_string(), "6.12.117-1");
        let exact = some.exactly(&"6.12.117-1~deb12u1".parse().unwrap()).unwrap();
        assert_eq!(exact.suite, "bookworm-security");
        assert_eq!(some.lines().unwrap()[1], "7.2    7.2.13-1 (sid)");
        assert_eq!(
            some.lines().unwrap()[2],
            "6.12   6.12.117-1 (trixie, trixie-security), 6.12.117-1~deb12u1 (bookworm-security)"
        );
    }

    #[test]
    fn what_can_be_had_is_listed() {
        let mut some = some();
        let text = |result: Result<&Offer>| {
            let error = result.unwrap_err();
            assert!(error.is::<BadInput>());
            error.to_string()
        };
        assert_eq!(text(some.newest_of(Series::new(6, 13))), "no kernel 6.13 in Debian: there are 6.1, 6.12, 7.2, 7.3");
        assert_eq!(
            text(some.exactly(&"6.12.1-1".parse().unwrap())),
            "no kernel 6.12.1-1 in Debian: of 6.12 there are 6.12.117-1, 6.12.117-1~deb12u1"
        );
        some.not_served.push(("bullseye", "404".to_owned()));
        assert_eq!(
            text(some.exactly(&"5.10.1-1".parse().unwrap())),
            "no kernel 5.10 in Debian: there are 6.1, 6.12, 7.2, 7.3; not served: bullseye (404)"
        );
        assert_eq!(text(offers(&[]).newest()), "no kernel source can be had from Debian's archive");
    }
}
