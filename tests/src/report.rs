//! What the injector wrote: JSON lines, schema 2.

use std::collections::BTreeMap;

use serde_json::Value;

/// The lines of one run.
#[derive(Debug)]
pub struct Report {
    /// The line at the start.
    pub start: Value,
    /// One per failure that the ring did not lose, with its site's stack.
    pub failures: Vec<Value>,
    /// What came of failures, where that was asked for.
    pub outcomes: Vec<Value>,
    /// The line at the end.
    pub summary: Value,
    stderr: String,
}

/// The summary's entry for one hook.
#[derive(Clone, Copy, Debug)]
pub struct Hook<'a>(&'a Value);

impl Hook<'_> {
    /// A counter.
    pub fn get(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {}", self.0))
    }

    /// Matches that were not failed, by reason: everything that the accounting knows besides failures.
    fn let_through(&self) -> u64 {
        let known = ["passed", "exhausted", "expired", "sites_full"];
        let counters = self.0.as_object().expect("hooks are objects");
        let of_guards = counters.iter().filter(|(name, _)| name.starts_with("suppressed_"));
        known.iter().map(|name| self.get(name)).sum::<u64>() + of_guards.filter_map(|(_, v)| v.as_u64()).sum::<u64>()
    }
}

impl Report {
    /// Reads the lines; panics when one is not as the schema says.
    pub fn parse(text: &str, stderr: &str) -> Self {
        let mut start = Value::Null;
        let mut summary = Value::Null;
        let (mut failures, mut outcomes) = (Vec::new(), Vec::new());
        let mut stacks = BTreeMap::new();
        for line in text.lines() {
            let mut value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}\n{stderr}"));
            assert_eq!(value["schema"], 2, "{line}");
            assert!(summary.is_null(), "a line after the summary: {line}");
            match value["type"].as_str() {
                Some("start") => {
                    assert!(start.is_null() && failures.is_empty(), "start is not the first line: {line}");
                    start = value;
                }
                Some("site") => {
                    let known = stacks.insert(value["site"].to_string(), value["stack"].take());
                    assert!(known.is_none(), "a site for the second time: {line}");
                }
                Some("failure") => {
                    let stack = stacks.get(&value["site"].to_string());
                    value["stack"] = stack.unwrap_or_else(|| panic!("a failure before its site: {line}")).clone();
                    failures.push(value);
                }
                Some("outcome") => outcomes.push(value),
                Some("summary") => summary = value,
                _ => panic!("unknown type: {line}"),
            }
        }
        Self { start, failures, outcomes, summary, stderr: stderr.to_owned() }
    }

    /// The summary's entry for a hook.
    pub fn hook(&self, name: &str) -> Hook<'_> {
        let hook = &self.summary["hooks"][name];
        assert!(hook.is_object(), "no hook {name} in the summary: {}\n{}", self.summary, self.stderr);
        Hook(hook)
    }

    /// A number of the summary.
    pub fn total(&self, name: &str) -> u64 {
        self.summary[name].as_u64().unwrap_or_else(|| panic!("no {name} in {}\n{}", self.summary, self.stderr))
    }

    /// Why the run ended.
    pub fn end(&self) -> &str {
        self.summary["end"].as_str().unwrap_or_else(|| panic!("no end in {}\n{}", self.summary, self.stderr))
    }

    /// The summary's sites: signature, hook, count, stack.
    pub fn sites(&self) -> Vec<Site> {
        let sites = self.summary["sites"].as_array();
        let sites = sites.unwrap_or_else(|| panic!("no sites in {}\n{}", self.summary, self.stderr));
        sites.iter().map(Site::parse).collect()
    }

    /// Panics unless the books balance: per hook, in the sums, and between sums, events and histogram.
    pub fn assert_accounts(&self) {
        let hooks = self.summary["hooks"].as_object().unwrap_or_else(|| panic!("{}\n{}", self.summary, self.stderr));
        assert!(!hooks.is_empty(), "{}", self.summary);
        for (name, hook) in hooks {
            let hook = Hook(hook);
            assert_eq!(hook.get("matches"), hook.get("failures") + hook.let_through(), "{name}: {}", hook.0);
            assert!(hook.get("matches") <= hook.get("calls"), "{name}: {}", hook.0);
        }
        let rules = self.summary["rules"].as_array().unwrap_or_else(|| panic!("no rules in {}", self.summary));
        for (name, hook) in hooks {
            let of_rules: u64 = rules.iter().filter_map(|rule| rule["hooks"][name]["failures"].as_u64()).sum();
            assert_eq!(of_rules, Hook(hook).get("failures"), "{name}, over rules: {}", self.summary);
        }
        for counter in ["calls", "matches", "failures", "lost"] {
            let sum: u64 = hooks.values().map(|hook| Hook(hook).get(counter)).sum();
            assert_eq!(self.total(counter), sum, "{counter}: {}", self.summary);
        }
        assert_eq!(self.total("delivered") + self.total("lost"), self.total("failures"), "{}", self.summary);
        let of_sites: u64 = self.sites().iter().map(|site| site.count).sum();
        assert_eq!(of_sites, self.total("failures"), "sum of the histogram: {}", self.summary);
        let signatures: std::collections::BTreeSet<_> = self.sites().into_iter().map(|site| site.signature).collect();
        assert_eq!(signatures.len(), self.sites().len(), "a signature appears twice: {}", self.summary);
    }

    /// As [`Self::assert_accounts`], and every delivered failure has its line.
    pub fn assert_accounts_with_lines(&self) {
        self.assert_accounts();
        assert_eq!(self.failures.len() as u64, self.total("delivered"), "lines of failures: {}", self.summary);
    }
}

/// A site of the summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// 16 hexadecimal digits.
    pub signature: String,
    /// The hook.
    pub hook: String,
    /// Failures there.
    pub count: u64,
    /// Frames, innermost first.
    pub stack: Vec<String>,
}

impl Site {
    fn parse(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned();
        let stack = value["stack"].as_array().unwrap_or_else(|| panic!("no stack in {value}"));
        let site = Self {
            signature: text("site"),
            hook: text("hook"),
            count: value["count"].as_u64().unwrap_or_else(|| panic!("no count in {value}")),
            stack: stack.iter().map(|frame| frame.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()).collect(),
        };
        assert!(
            site.signature.len() == 16 && site.signature.bytes().all(|digit| digit.is_ascii_hexdigit()),
            "signature {:?}",
            site.signature
        );
        site
    }

    /// Whether some frame is in a function whose name begins so.
    pub fn has(&self, prefix: &str) -> bool {
        has_frame(&self.stack, prefix)
    }
}

/// Whether some frame is in a function whose name begins so.
pub fn has_frame(stack: &[String], prefix: &str) -> bool {
    stack.iter().any(|frame| frame.starts_with(prefix))
}

/// The frames of a failure.
pub fn stack_of(failure: &Value) -> Vec<String> {
    let stack = failure["stack"].as_array().unwrap_or_else(|| panic!("no stack in {failure}"));
    stack.iter().map(|frame| frame.as_str().unwrap_or_else(|| panic!("{failure}")).to_owned()).collect()
}
