//! The report as kcidb's I/O schema, version 5.3, which KernelCI's database and tools read: a build of the kernel, and its tests.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{
    model::Report,
    phrase::{self, one_line, printable},
    results::{self, Test, TestResult},
};
use crate::journal::Finding;

/// Who submits it, unless somebody puts another name in.
const ORIGIN: &str = "injector";
/// What a log's excerpt has at most, characters.
const EXCERPT: usize = 16_384;

/// The report as one JSON object.
///
/// # Errors
/// It can't be written.
pub fn kcidb(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &value(report))?;
    writeln!(out)?;
    out.flush()
}

fn value(report: &Report) -> Value {
    let version = json!({"major": 5, "minor": 3});
    let (Some(config), Some(sweep)) = (&report.config, report.sweeps.first()) else {
        return json!({"version": version});
    };
    let kernel = &config.kernel;
    // What the build is called elsewhere, nobody here knows: by its own id it is at least the same for every sweep of it.
    let build = kernel.build_id.clone().unwrap_or_else(|| Finding::id_of(&phrase::kernel(kernel)));
    let checkout_id = format!("{ORIGIN}:{}", id(&kernel.release));
    let build_id = format!("{ORIGIN}:{}", id(&build));
    let modules = results::by_module(report);
    let test = |test: &Test<'_>| {
        let path = format!("injector.{}", test.path());
        let (status, comment) = match &test.result {
            TestResult::Pass => ("PASS", None),
            TestResult::Fail => ("FAIL", test.findings.first().map(|found| one_line(&found.finding.title))),
            // Nothing new; the schema has no word for what is expected to fail.
            TestResult::Known => ("DONE", test.findings.first().map(|found| one_line(&found.finding.title))),
            TestResult::Skip(why) => ("SKIP", Some(why.clone())),
        };
        let mut value = json!({
            "id": format!("{ORIGIN}:{}:{path}", id(&sweep.sweep)),
            "build_id": build_id,
            "origin": ORIGIN,
            "path": path,
            "status": status,
            "start_time": sweep.time,
            "misc": {
                "sites": test.sites,
                "findings": test.findings.iter().map(|found| &found.finding.id).collect::<Vec<_>>(),
            },
        });
        if let Some(comment) = comment {
            value["comment"] = comment.into();
        }
        let splats: Vec<&str> = test.findings.iter().map(|found| found.finding.splat.trim_end()).collect();
        let splats = splats.join("\n\n");
        if !splats.is_empty() {
            value["log_excerpt"] = printable(&splats).chars().take(EXCERPT).collect::<String>().into();
        }
        value
    };
    let tests: Vec<Value> = modules.iter().flat_map(|(_, tests)| tests).map(test).collect();
    json!({
        "version": version,
        "checkouts": [{"id": checkout_id, "origin": ORIGIN}],
        "builds": [{
            "id": build_id,
            "checkout_id": checkout_id,
            "origin": ORIGIN,
            "architecture": "x86_64",
            "status": "PASS",
            "comment": phrase::kernel(kernel),
            "misc": {"workload": phrase::workload(config), "config_sha256": kernel.config},
        }],
        "tests": tests,
    })
}

/// What may stand behind the colon of an id.
fn id(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect()
}
