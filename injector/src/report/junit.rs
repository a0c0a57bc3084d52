//! JUnit's XML: a suite for each module, in it a case for each call chain.

use std::io::{self, Write};

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::{
    model::{Found, Report},
    phrase,
    results::{self, Test, TestResult},
};

/// The report as JUnit XML. Findings are failures, sites that could not be failed are skipped, and so are known findings.
/// Findings that can't be put down to a site yet have a suite of their own.
///
/// # Errors
/// It can't be written.
pub fn junit(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut xml = quick_junit::Report::new("injector sweep");
    for (module, tests) in results::by_module(report) {
        let mut suite = TestSuite::new(module);
        properties(report, &mut suite);
        suite.add_test_cases(tests.iter().map(|test| case(report, test)));
        xml.add_test_suite(suite);
    }
    let text = xml.to_string().map_err(io::Error::other)?;
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn case(report: &Report, test: &Test<'_>) -> TestCase {
    let Test { module, name, sites, findings, result } = test;
    let status = match (result, findings.first()) {
        (TestResult::Fail, Some(found)) => failure(found, findings),
        (TestResult::Fail, None) => {
            let verdict = sites.iter().filter_map(|site| report.site(*site)).map(|site| site.verdict).max();
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(verdict.unwrap_or_default().name());
            status
        }
        (TestResult::Known, found) => known(found.map_or("", |found| &found.finding.title)),
        (TestResult::Skip(why), _) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why.as_ref());
            status
        }
        (TestResult::Pass, _) => TestCaseStatus::success(),
    };
    let mut case = TestCase::new(name.as_str(), status);
    case.set_classname(*module);
    let odd = report.misreported.iter().chain(&report.wedged).filter(|odd| sites.contains(&odd.site));
    let odd: Vec<String> = odd.map(phrase::odd).collect();
    if !odd.is_empty() {
        case.set_system_out(odd.join("\n"));
    }
    case
}

fn properties(report: &Report, suite: &mut TestSuite) {
    if let Some(config) = &report.config {
        suite.add_property(("kernel", phrase::kernel(&config.kernel).as_str()));
        suite.add_property(("workload", phrase::workload(config).as_str()));
    }
}

/// A known finding does not fail the run.
fn known(title: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_type("known");
    status.set_message(phrase::one_line(&format!("known: {title}")).as_ref());
    status
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
