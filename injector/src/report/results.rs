//! A sweep as tests with names: what KTAP, JUnit, kcidb and LAVA have in common.
//!
//! A test is a call chain that allocates: hook, and the functions of the stack without offsets. So its name is the same in every
//! run, and in other builds of the same code. Sites that differ in offsets alone are one test.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    known,
    model::{Found, Report, SiteRow},
    phrase::{self, one_line},
};
use crate::journal::{Finding, Signature};

/// The module of findings that can't be put down to a site yet.
pub(super) const NOT_NARROWED_DOWN: &str = "not narrowed down";

/// A test.
pub(super) struct Test<'a> {
    /// The module or subsystem that it is of.
    pub(super) module: &'a str,
    /// Its name within that.
    pub(super) name: String,
    /// Its sites.
    pub(super) sites: Vec<Signature>,
    /// The findings that a failure there leads to, those that are not known first.
    pub(super) findings: Vec<&'a Found>,
    /// What became of it.
    pub(super) result: TestResult<'a>,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TestResult<'a> {
    /// It was failed, and nothing was wrong.
    Pass,
    /// A finding.
    Fail,
    /// Findings, all of which are known.
    Known,
    /// It was not failed, for this reason.
    Skip(Cow<'a, str>),
}

/// The tests by module; the last module is that of findings without a site, if there are any.
pub(super) fn by_module(report: &Report) -> Vec<(&str, Vec<Test<'_>>)> {
    let mut modules: Vec<&str> = report.modules.iter().map(|module| module.module.as_str()).collect();
    modules.sort_unstable();
    let mut all: Vec<(&str, Vec<Test<'_>>)> =
        modules.into_iter().map(|module| (module, of_module(report, module))).collect();
    let without: Vec<Test<'_>> = report.without_site().map(|found| not_narrowed_down(found)).collect();
    if !without.is_empty() {
        all.push((NOT_NARROWED_DOWN, without));
    }
    all
}

fn of_module<'a>(report: &'a Report, module: &'a str) -> Vec<Test<'a>> {
    let mut groups: BTreeMap<String, Vec<(Signature, &'a SiteRow)>> = BTreeMap::new();
    for (signature, site) in report.sites_of(module) {
        groups.entry(name(signature, site)).or_default().push((signature, site));
    }
    groups.into_iter().map(|(name, sites)| test(report, module, name, &sites)).collect()
}

fn test<'a>(report: &'a Report, module: &'a str, name: String, sites: &[(Signature, &'a SiteRow)]) -> Test<'a> {
    let mut findings: Vec<&Found> = Vec::new();
    for found in sites.iter().flat_map(|(signature, _)| report.findings_at(*signature)) {
        if !findings.iter().any(|other| other.finding.id == found.finding.id) {
            findings.push(found);
        }
    }
    findings.sort_by_key(|found| found.known.is_some());
    let skipped = |(signature, site): &(Signature, &'a SiteRow)| phrase::skipped(report, *signature, site);
    let result = if findings.iter().any(|found| found.known.is_none()) {
        TestResult::Fail
    } else if !findings.is_empty() {
        TestResult::Known
    } else if sites.iter().any(|(_, site)| site.verdict.is_finding()) {
        TestResult::Fail
    } else {
        let why: Option<Vec<Cow<'a, str>>> = sites.iter().map(skipped).collect();
        why.and_then(|why| why.into_iter().next()).map_or(TestResult::Pass, TestResult::Skip)
    };
    Test { module, name, sites: sites.iter().map(|(signature, _)| *signature).collect(), findings, result }
}

fn not_narrowed_down(found: &Found) -> Test<'_> {
    let result = if found.known.is_some() { TestResult::Known } else { TestResult::Fail };
    // `#` would begin a directive in KTAP.
    let name = one_line(&found.finding.title).replace('#', "?");
    Test { module: NOT_NARROWED_DOWN, name, sites: Vec::new(), findings: vec![found], result }
}

/// `jbd2_journal_init_inode slab 1c82c04f`: who asked for memory, the hook, and 32 bits of a hash over the functions of the call
/// chain. A site without a stack has its signature.
fn name(signature: Signature, site: &SiteRow) -> String {
    let functions: Vec<String> = known::functions(&site.stack).collect();
    let name = match functions.first() {
        Some(asker) => format!("{asker} {} {}", site.hook(), Finding::id_of(&functions.join(" "))),
        None => format!("? {} {signature}", site.hook()),
    };
    // `#` would begin a directive in KTAP.
    one_line(&name).replace('#', "?")
}

impl Test<'_> {
    /// Its name with its module, of letters, digits, `.`, `_` and `-` alone: `ext4.ext4_find_extent.slab.1c82c04f`. What is
    /// anything else becomes `_`.
    pub(super) fn path(&self) -> String {
        let slug = |text: &str| -> String {
            text.chars().map(|c| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' }).collect()
        };
        let parts: Vec<String> = match self.sites.is_empty() {
            true => vec![slug(&self.name)],
            false => self.name.split(' ').map(slug).collect(),
        };
        format!("{}.{}", slug(self.module), parts.join("."))
    }
}
