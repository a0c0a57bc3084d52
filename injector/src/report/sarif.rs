//! The findings as SARIF 2.1.0, for code scanning: each at the line that asked for the memory whose failure leads to it.
//! Findings whose line is not known are not in it, for a result without a place is shown nowhere.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde_json::{Value, json};

use super::{
    model::{Found, Report},
    phrase::{self, one_line},
};
use crate::{
    events::frames,
    journal::{FindingFailure, Verdict},
    symbols::Line,
};

/// The report as SARIF.
///
/// # Errors
/// It can't be written.
pub fn sarif(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let results: Vec<Value> = report.findings.iter().filter_map(|found| result(report, found)).collect();
    let mut rules: BTreeMap<&str, Value> = BTreeMap::new();
    for found in &report.findings {
        let verdict = found.finding.verdict;
        rules.entry(verdict.name()).or_insert_with(|| rule(verdict));
    }
    let left_out = report.findings.len() - results.len();
    let version = report.sweeps.first().map_or("", |sweep| &sweep.version);
    let value = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "injector",
                "version": version,
                "rules": rules.into_values().collect::<Vec<_>>(),
            }},
            "originalUriBaseIds": {"SRCROOT": {"description": {"text": "The root of the kernel's sources"}}},
            "results": results,
            "properties": {"findingsWithoutLine": left_out},
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    writeln!(out)?;
    out.flush()
}

fn rule(verdict: Verdict) -> Value {
    let text = match verdict {
        Verdict::Oops => "A failed allocation makes the kernel crash",
        Verdict::Hang => "A failed allocation makes a task hang",
        Verdict::Warning => "A failed allocation makes the kernel warn",
        Verdict::Leak => "A failed allocation makes the kernel lose memory",
        _ => "A failed allocation leaves the system unusable",
    };
    json!({"id": verdict.name(), "shortDescription": {"text": text}})
}

fn result(report: &Report, found: &Found) -> Option<Value> {
    let finding = &found.finding;
    let lines: Vec<(&FindingFailure, &Line)> =
        finding.failures.iter().filter_map(|failure| Some((failure, line(report, failure)?))).collect();
    let (failure, _) = lines.first()?;
    let places: Vec<Value> = lines.iter().map(|(_, line)| place(line)).collect();
    let function = report.site(failure.site).map_or("?", |site| site.function());
    let tries = phrase::tries(finding.reproduced, finding.tries);
    let text =
        format!("{}, after an injected failure of the allocation here, in {function}() ({tries})", finding.title);
    Some(json!({
        "ruleId": finding.verdict.name(),
        "level": if found.known.is_some() { "note" } else { "error" },
        "message": {"text": one_line(&text)},
        "locations": [places[0]],
        "relatedLocations": places[1..],
        "partialFingerprints": {"finding/v1": finding.id},
        "baselineState": if found.known.is_some() { "unchanged" } else { "new" },
        "properties": {"replay": one_line(&found.replay)},
    }))
}

/// The line that asked for the memory: in the code that asked the allocator, or in what is inlined there, as long as that is
/// code of a C file.
fn line<'a>(report: &'a Report, failure: &FindingFailure) -> Option<&'a Line> {
    let site = report.site(failure.site)?;
    let lines = report.lines.get(frames::callers(&site.stack).first()?)?;
    lines.iter().find(|line| line.file.ends_with(".c")).or(lines.last())
}

fn place(line: &Line) -> Value {
    json!({"physicalLocation": {
        "artifactLocation": {"uri": one_line(&line.file), "uriBaseId": "SRCROOT"},
        "region": {"startLine": line.line},
    }})
}
