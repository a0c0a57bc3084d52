//! JUnit's XML: a suite for each module, in it a case for each site.

use std::io::{self, Write};

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::{
    model::{Found, Report},
    phrase,
};

/// The report as JUnit XML. Findings are failures, sites that could not be failed are skipped. Findings that can't be put
/// down to a site yet have a suite of their own.
///
/// # Errors
/// It can't be written.
pub fn junit(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut xml = quick_junit::Report::new("injector sweep");
    let mut modules: Vec<&str> = report.modules.iter().map(|module| module.module.as_str()).collect();
    modules.sort_unstable();
    for module in modules {
        let mut suite = TestSuite::new(module);
        properties(report, &mut suite);
        suite.add_test_cases(report.sites_of(module).map(|(signature, site)| {
            let name = phrase::test(signature, site);
            let findings: Vec<&Found> = report.findings_at(signature).collect();
            let status = if let Some(found) = findings.first() {
                failure(found, &findings)
            } else if site.verdict.is_finding() {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_type(site.verdict.name());
                status
            } else if let Some(why) = phrase::skipped(report, signature, site) {
                let mut status = TestCaseStatus::skipped();
                status.set_message(why);
                status
            } else {
                TestCaseStatus::success()
            };
            let mut case = TestCase::new(name, status);
            case.set_classname(module);
            let odd = report.misreported.iter().chain(&report.wedged).filter(|odd| odd.site == signature);
            let odd: Vec<String> = odd.map(phrase::odd).collect();
            if !odd.is_empty() {
                case.set_system_out(odd.join("\n"));
            }
            case
        }));
        xml.add_test_suite(suite);
    }
    let without: Vec<&Found> = report.without_site().collect();
    if !without.is_empty() {
        let mut suite = TestSuite::new("not narrowed down");
        properties(report, &mut suite);
        suite.add_test_cases(without.into_iter().map(|found| {
            let title = phrase::one_line(&found.finding.title).into_owned();
            let mut case = TestCase::new(title, failure(found, &[found]));
            case.set_classname("not narrowed down");
            case
        }));
        xml.add_test_suite(suite);
    }
    let text = xml.to_string().map_err(io::Error::other)?;
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn properties(report: &Report, suite: &mut TestSuite) {
    if let Some(config) = &report.config {
        suite.add_property(("kernel", phrase::kernel(&config.kernel).as_str()));
        suite.add_property(("workload", phrase::workload(config).as_str()));
    }
}

fn failure(first: &Found, all: &[&Found]) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(first.finding.verdict.name());
    status.set_message(phrase::one_line(&first.finding.title));
    let texts = all.iter().map(|found| {
        let finding = &found.finding;
        let tries = phrase::tries(finding.reproduced, finding.tries);
        format!("{}: {}\n{tries}: {}\n{}", finding.verdict, finding.title, found.replay, finding.splat.trim_end())
    });
    status.set_description(phrase::printable(&texts.collect::<Vec<_>>().join("\n\n")).into_owned());
    status
}
