//! A plan as the text of a plan file.

use std::fmt::{Display, Write};
use std::path::PathBuf;

use toml::Value;

use crate::plan::{Backend, Hook, Limits, NthPer, PidNamespaceName, Plan, Policy, Rule, Target, duration};

/// A plan file is UTF-8, and so are all texts in it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the path {} is not UTF-8 and can't stand in a plan file", .0.display())]
pub struct NotText(PathBuf);

/// What a plan file says that makes this plan: only what differs from the defaults. The command and the output are left out.
///
/// # Errors
/// The path of a cgroup or a PID namespace is no text.
pub fn to_toml(plan: &Plan) -> Result<String, NotText> {
    let Plan { rules, backend, target, limits, dry_run, outcome, vmlinux: _, output: _ } = plan;
    let Target { all, pids, cgroups, containers, pid_namespaces, command: _, follow } = target;
    let Limits { duration, ttl } = limits;
    let mut file = Printer::default();
    file.flag("dry-run", *dry_run);
    file.flag("outcome", *outcome);
    file.text("backend", (*backend != Backend::Auto).then(|| backend.to_string()));
    file.text("duration", duration.map(duration::format));
    file.text("ttl", (*ttl != Limits::DEFAULT_TTL).then(|| duration::format(*ttl)));
    if *all || !(Target { command: None, ..target.clone() }).is_everybody() {
        let path = |path: &PathBuf| path.to_str().map(str::to_owned).ok_or_else(|| NotText(path.clone()));
        let cgroups: Vec<String> = cgroups.iter().map(path).collect::<Result<_, _>>()?;
        file.header("[target]");
        file.flag("all", *all);
        file.numbers("pid", pids);
        file.texts("cgroup", &cgroups);
        file.texts("container", containers);
        for name in pid_namespaces {
            if let PidNamespaceName::File(path) = name {
                path.to_str().ok_or_else(|| NotText(path.clone()))?;
            }
        }
        file.texts("pidns", pid_namespaces);
        file.flag("follow", *follow);
    }
    for rule in rules {
        file.header("[[rule]]");
        file.rule(rule, rules.len() > 1, target);
    }
    Ok(file.text)
}

/// Writes keys and their values.
#[derive(Default)]
pub(in crate::plan) struct Printer {
    text: String,
}

impl Printer {
    fn header(&mut self, header: &str) {
        let blank = if self.text.is_empty() { "" } else { "\n" };
        self.put(format_args!("{blank}{header}"));
    }

    fn put(&mut self, line: impl Display) {
        // Into a String: nothing can fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn key(&mut self, key: &str, mut values: Vec<Value>) {
        match values.len() {
            0 => {}
            1 => self.put(format_args!("{key} = {}", values.remove(0))),
            _ => self.put(format_args!("{key} = {}", Value::Array(values))),
        }
    }

    fn flag(&mut self, key: &str, on: bool) {
        self.key(key, on.then_some(Value::Boolean(true)).into_iter().collect());
    }

    pub(in crate::plan) fn text(&mut self, key: &str, value: Option<impl Display>) {
        self.texts(key, value.as_slice());
    }

    pub(in crate::plan) fn texts(&mut self, key: &str, values: &[impl Display]) {
        self.key(key, values.iter().map(|value| Value::String(value.to_string())).collect());
    }

    pub(in crate::plan) fn number(&mut self, key: &str, value: Option<impl Display>) {
        self.numbers(key, value.as_slice());
    }

    pub(in crate::plan) fn numbers(&mut self, key: &str, values: &[impl Display]) {
        self.key(key, values.iter().map(number).collect());
    }

    fn rule(&mut self, rule: &Rule, named: bool, target: &Target) {
        let Rule { name, hooks, functions, filter, policy } = rule;
        self.text("name", (named || name != Rule::DEFAULT_NAME).then_some(name));
        let default_hooks: &[Hook] = if functions.is_empty() { &Hook::MEMORY } else { &[] };
        self.texts("hook", if hooks == default_hooks { &[] } else { hooks });
        self.texts("function", functions);
        filter.write(self);
        self.policy(policy, target);
    }

    fn policy(&mut self, policy: &Policy, target: &Target) {
        let Policy { skip, space, every, nth, nth_per, probability, seed, per_site, rate, times, errno } = policy;
        self.number("skip", differs(*skip));
        self.number("space", differs(*space));
        self.number("every", *every);
        self.numbers("nth", nth);
        self.text("nth-per", (*nth_per != NthPer::Run).then_some(nth_per));
        // What goes without saying is not said: a file of a run with a command would else fail the whole machine's
        // allocations when it is used without one.
        let goes_without_saying = policy.default_probability(target) == Ok(*probability);
        self.number("prob", (!goes_without_saying).then_some(probability));
        self.number("seed", *seed);
        self.number("per-site", *per_site);
        self.text("rate", rate.map(|rate| format!("{rate}/s")));
        self.number("times", *times);
        self.text("errno", *errno);
    }
}

/// A value that is not the default.
pub(in crate::plan) fn differs<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// A number where it is one that TOML can hold, else a text.
fn number(value: &impl Display) -> Value {
    let text = value.to_string();
    if let Ok(number) = text.parse::<i64>() {
        return Value::Integer(number);
    }
    match text.parse::<f64>() {
        // Numbers with more digits are whole.
        Ok(number) if number.to_string() == text && text.contains('.') => Value::Float(number),
        _ => Value::String(text),
    }
}
