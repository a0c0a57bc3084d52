//! The lines: `{"do":"pause"}`, and what comes back: `{"ok":true,"state":"paused",…}` or `{"ok":false,"error":"…"}`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Change, Snapshot};
use crate::events::HookSummary;

/// How long a request's line may be.
pub const LINE_LIMIT: usize = 4096;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Fail nothing until [`Request::Resume`].
    Pause {},
    /// Go on.
    Resume {},
    /// Change knobs: all of them or, when one can't be, none.
    Set {
        /// At least one, as on the command line.
        changes: Vec<Change>,
    },
    /// Say how it stands.
    Status {},
    /// End the run, in order.
    Stop {},
}

/// What a run answers: how it stands after what was asked, or why that was not done.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Done.
    Done(Status),
    /// Not done.
    Refused(String),
}

/// A line that is not of this protocol.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// Whether failures happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// They do.
    Running,
    /// Not for now.
    Paused,
    /// Not any more.
    Stopping,
}

/// How a run stands. The field order is that of the JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Whether failures happen.
    pub state: RunState,
    /// Everything but the failing is done.
    pub dry_run: bool,
    /// Since it was armed, nanoseconds.
    pub elapsed_ns: u64,
    /// Until `--duration` is over, nanoseconds.
    pub left_ns: Option<u64>,
    /// Failures whose event arrived.
    pub delivered: u64,
    /// In the plan's order.
    pub rules: Vec<RuleStatus>,
}

/// How a rule stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// How likely a match fails.
    pub prob: f64,
    /// How many failures a second there may be.
    pub rate: Option<u64>,
    /// How many failures there may still be.
    pub times_left: Option<u64>,
    /// The counters of each hook.
    pub hooks: Vec<HookStatus>,
}

/// The counts of a rule's hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Its name.
    pub hook: String,
    /// What was counted.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Some counters, by the names that the summary has for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Calls of the hook: by the targets, if there are any.
    pub calls: u64,
    /// Calls that every filter accepted.
    pub matches: u64,
    /// Matches that were failed.
    pub failures: u64,
    /// Failures whose event found the ring full.
    pub lost: u64,
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    /// It is no request.
    pub fn from_line(line: &str) -> Result<Self, Malformed> {
        let request: Self = serde_json::from_str(line).map_err(|error| {
            // The line is one, so its number says nothing.
            let error = error.to_string();
            let error = error.split(" at line 1").next().unwrap_or(&error);
            Malformed(format!(
                "this is no request ({error}); requests are lines like {{\"do\":\"status\"}}, {{\"do\":\"set\",\"changes\":[\"prob=0.05\"]}}"
            ))
        })?;
        match request {
            Self::Set { changes } if changes.is_empty() => Err(Malformed("nothing is set; try prob=0.05".to_owned())),
            request => Ok(request),
        }
    }

    /// As a line, with its end.
    ///
    /// # Errors
    /// Never.
    pub fn to_line(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|line| line + "\n")
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    error: Option<String>,
    #[serde(flatten)]
    status: Option<Status>,
}

impl Answer {
    /// Reads a line.
    ///
    /// # Errors
    /// It is no answer.
    pub fn from_line(line: &str) -> Result<Self, Malformed> {
        let malformed = |error: String| Malformed(format!("the run answers what this injector can't read: {error}"));
        match serde_json::from_str(line).map_err(|error| malformed(error.to_string()))? {
            Line { ok: true, status: Some(status), .. } => Ok(Self::Done(status)),
            Line { ok: false, error: Some(error), .. } => Ok(Self::Refused(error)),
            Line { .. } => Err(malformed("it says neither how it stands nor what is wrong".to_owned())),
        }
    }

    /// As a line, with its end.
    ///
    /// # Errors
    /// Never.
    pub fn to_line(&self) -> serde_json::Result<String> {
        let line = match self {
            Self::Done(status) => Line { ok: true, error: None, status: Some(status.clone()) },
            Self::Refused(error) => Line { ok: false, error: Some(error.clone()), status: None },
        };
        serde_json::to_string(&line).map(|line| line + "\n")
    }
}

impl Status {
    /// The sum over all rules and hooks.
    #[must_use]
    pub fn total(&self) -> Counts {
        let hooks = self.rules.iter().flat_map(|rule| &rule.hooks);
        hooks.fold(Counts::default(), |sum, hook| sum.and(&hook.counts))
    }
}

impl Counts {
    fn and(self, other: &Self) -> Self {
        let Self { calls, matches, failures, lost } = *other;
        Self {
            calls: self.calls.saturating_add(calls),
            matches: self.matches.saturating_add(matches),
            failures: self.failures.saturating_add(failures),
            lost: self.lost.saturating_add(lost),
        }
    }
}

impl From<&Snapshot> for Status {
    fn from(snapshot: &Snapshot) -> Self {
        let Snapshot { paused, dry_run, elapsed, left, delivered, rules } = snapshot;
        let nanoseconds = |duration: &Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self {
            state: if *paused { RunState::Paused } else { RunState::Running },
            dry_run: *dry_run,
            elapsed_ns: nanoseconds(elapsed),
            left_ns: left.as_ref().map(nanoseconds),
            delivered: *delivered,
            rules: rules
                .iter()
                .map(|rule| RuleStatus {
                    name: rule.name.to_string(),
                    prob: rule.probability.get(),
                    rate: rule.rate.map(Into::into),
                    times_left: rule.left,
                    hooks: rule.hooks.iter().map(HookStatus::from).collect(),
                })
                .collect(),
        }
    }
}

impl From<&HookSummary> for HookStatus {
    fn from(summary: &HookSummary) -> Self {
        let counters = summary.counters;
        Self {
            hook: summary.hook.name().to_owned(),
            counts: Counts {
                calls: counters.calls,
                matches: counters.matches,
                failures: counters.failures,
                lost: counters.lost,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::change;
    use super::*;
    use proptest::prelude::*;

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::Pause {}),
            Just(Request::Resume {}),
            Just(Request::Status {}),
            Just(Request::Stop {}),
            proptest::collection::vec(change(), 1..4).prop_map(|changes| Request::Set { changes }),
        ]
    }

    fn status() -> impl Strategy<Value = Status> {
        let state = prop_oneof![Just(RunState::Running), Just(RunState::Paused), Just(RunState::Stopping)];
        let counts = any::<(u64, u64, u64, u64)>();
        let counts = counts.prop_map(|(calls, matches, failures, lost)| Counts { calls, matches, failures, lost });
        let hook = ("[a-z_]+", counts).prop_map(|(hook, counts)| HookStatus { hook, counts });
        let hooks = proptest::collection::vec(hook, 0..3);
        let rule = ("\\PC*", 0.0..=1.0f64, any::<Option<u64>>(), any::<Option<u64>>(), hooks);
        let rule =
            rule.prop_map(|(name, prob, rate, times_left, hooks)| RuleStatus { name, prob, rate, times_left, hooks });
        let rules = proptest::collection::vec(rule, 0..3);
        (state, any::<bool>(), any::<u64>(), any::<Option<u64>>(), any::<u64>(), rules).prop_map(
            |(state, dry_run, elapsed_ns, left_ns, delivered, rules)| Status {
                state,
                dry_run,
                elapsed_ns,
                left_ns,
                delivered,
                rules,
            },
        )
    }

    #[test]
    fn lines() {
        assert_eq!(Request::Pause {}.to_line().unwrap(), "{\"do\":\"pause\"}\n");
        let set = Request::Set { changes: vec!["prob=5%".parse().unwrap(), "flaky.times=3".parse().unwrap()] };
        assert_eq!(set.to_line().unwrap(), "{\"do\":\"set\",\"changes\":[\"prob=0.05\",\"flaky.times=3\"]}\n");
        let refused = Answer::Refused("no".to_owned());
        assert_eq!(refused.to_line().unwrap(), "{\"ok\":false,\"error\":\"no\"}\n");
    }

    #[test]
    fn what_is_refused_says_why() {
        let said = |line: &str| Request::from_line(line).unwrap_err().to_string();
        assert!(said("{\"do\":\"explode\"}").contains("explode"), "{}", said("{\"do\":\"explode\"}"));
        assert!(said("{\"do\":\"set\",\"changes\":[\"prob=2\"]}").contains("out of range"));
        assert!(said("{\"do\":\"set\",\"changes\":[]}").contains("nothing is set"));
        assert!(said("{\"do\":\"pause\",\"until\":1}").contains("until"), "{}", said("{\"do\":\"pause\",\"until\":1}"));
        for line in ["", "pause", "[]", "{}", "{\"do\":\"set\"}", "{\"do\":\"pause\"} x", "\u{0}"] {
            assert!(said(line).contains("no request"), "{line}");
        }
        assert!(Answer::from_line("{\"ok\":true}").is_err());
    }

    proptest! {
        #[test]
        fn requests_round_trip(request in request()) {
            let line = request.to_line().unwrap();
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert_eq!(Request::from_line(&line).unwrap(), request);
        }

        #[test]
        fn answers_round_trip(answer in prop_oneof![status().prop_map(Answer::Done), "\\PC*".prop_map(Answer::Refused)]) {
            let line = answer.to_line().unwrap();
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert_eq!(Answer::from_line(&line).unwrap(), answer);
        }

        #[test]
        fn never_panics(line in "\\PC*|\\{\"do\":\"[a-z]*\",\"[a-z]*\":[0-9\\[\\]\"a-z=]*\\}") {
            let _ = Request::from_line(&line);
            let _ = Answer::from_line(&line);
        }
    }
}
