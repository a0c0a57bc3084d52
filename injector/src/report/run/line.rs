//! The lines of a run, borrowed from the file: there may be millions. docs/run-formats.md says what is in them.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use crate::{
    events::{OutcomeKind, Outcomes},
    journal::{self, Signature},
    sinks::SCHEMA,
};

/// A line that is one of a run.
#[derive(Debug)]
pub(super) enum Line<'a> {
    Start(Box<Start>),
    Site(SiteLine<'a>),
    Failure(Failure<'a>),
    Outcome(OutcomeLine<'a>),
    Summary(Box<Summary<'a>>),
}

/// Why a line is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// It is damaged, or something else altogether.
    Corrupt(String),
    /// It is of another schema.
    Schema { schema: u64, version: String },
    /// It is of a sweep's journal.
    Journal,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(why) => f.write_str(why),
            Self::Schema { schema, .. } => write!(f, "it has schema {schema} instead of {SCHEMA}"),
            Self::Journal => f.write_str("it is of a sweep's journal"),
        }
    }
}

/// Text of the file itself where nothing in it is escaped.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The start of a run, as its first line has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Version of the injector.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// GNU build id of the kernel.
    #[serde(default)]
    pub build_id: Option<String>,
    /// Wall-clock time, RFC 3339, UTC.
    pub time: String,
    /// CLOCK_MONOTONIC at the same moment, nanoseconds.
    pub time_ns: u64,
    /// Nothing was failed.
    #[serde(default)]
    pub dry_run: bool,
    /// What was attached.
    #[serde(default)]
    pub hooks: Vec<String>,
    /// What was asked for.
    #[serde(default)]
    pub plan: serde_json::Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct SiteLine<'a> {
    pub(super) site: Signature,
    #[serde(borrow)]
    pub(super) hook: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) stack: Vec<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Failure<'a> {
    pub(super) time_ns: u64,
    #[serde(borrow)]
    pub(super) rule: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) hook: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) effective_gfp: Option<Text<'a>>,
    pub(super) order: Option<u32>,
    pub(super) size: Option<u64>,
    #[serde(borrow)]
    pub(super) cache: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) comm: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) context: Option<Text<'a>>,
    pub(super) site: Signature,
}

#[derive(Debug, Deserialize)]
pub(super) struct OutcomeLine<'a> {
    pub(super) site: Signature,
    #[serde(borrow)]
    pub(super) syscall: Option<Text<'a>>,
    pub(super) is: OutcomeKind,
    /// How many failures of the site were in the call.
    pub(super) count: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Summary<'a> {
    pub(super) elapsed_ns: u64,
    #[serde(borrow)]
    pub(super) end: Cow<'a, str>,
    pub(super) command_status: Option<i32>,
    pub(super) hooks: InOrder<Counters>,
    #[serde(default)]
    pub(super) rules: Vec<RuleSummary>,
    pub(super) calls: u64,
    pub(super) matches: u64,
    pub(super) failures: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) suppressed: u64,
    #[serde(borrow)]
    pub(super) sites: Vec<SiteSummary<'a>>,
}

/// Counters by name.
pub type Counters = InOrder<u64>;

#[derive(Debug, Deserialize)]
pub(super) struct RuleSummary {
    pub(super) name: String,
    pub(super) hooks: InOrder<Counters>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SiteSummary<'a> {
    pub(super) site: Signature,
    #[serde(borrow)]
    pub(super) hook: Cow<'a, str>,
    pub(super) count: u64,
    #[serde(borrow)]
    pub(super) stack: Vec<Text<'a>>,
    pub(super) outcomes: Option<Outcomes>,
}

/// The members of an object, in the order that they stand in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InOrder<V>(pub Vec<(String, V)>);

impl InOrder<u64> {
    /// The number of that name; 0 if there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.iter().find(|(member, _)| member == name).map_or(0, |(_, number)| *number)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for InOrder<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
            type Value = InOrder<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder<V>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(InOrder(members))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

impl<V: Serialize> Serialize for InOrder<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// How the injector begins the lines that there are most of.
fn fast(kind: &str) -> String {
    format!(r#"{{"schema":{SCHEMA},"type":"{kind}","#)
}

/// Reads lines.
pub(super) struct Parser {
    failure: String,
    outcome: String,
}

impl Parser {
    pub(super) fn new() -> Self {
        Self { failure: fast("failure"), outcome: fast("outcome") }
    }

    /// Reads one, without its newline.
    pub(super) fn parse<'a>(&self, line: &'a [u8]) -> Result<Line<'a>, Bad> {
        let corrupt = |error| Bad::Corrupt(journal::what_is_wrong(line, &error));
        if line.starts_with(self.failure.as_bytes()) {
            return serde_json::from_slice(line).map(Line::Failure).map_err(corrupt);
        }
        if line.starts_with(self.outcome.as_bytes()) {
            return serde_json::from_slice(line).map(Line::Outcome).map_err(corrupt);
        }
        let head: Head<'_> = serde_json::from_slice(line).map_err(corrupt)?;
        let kind = match (&head.kind, head.schema) {
            (Some(Text(kind)), _) if kind == "begin" => return Err(Bad::Journal),
            (Some(Text(kind)), Some(schema)) if schema == u64::from(SCHEMA) => kind,
            (Some(_), Some(schema)) => {
                return Err(Bad::Schema {
                    schema,
                    version: head.version.map(|text| text.0.into()).unwrap_or_default(),
                });
            }
            _ => return Err(Bad::Corrupt("it has no type and schema".to_owned())),
        };
        match &**kind {
            "start" => serde_json::from_slice(line).map(Line::Start),
            "site" => serde_json::from_slice(line).map(Line::Site),
            "failure" => serde_json::from_slice(line).map(Line::Failure),
            "outcome" => serde_json::from_slice(line).map(Line::Outcome),
            "summary" => serde_json::from_slice(line).map(Line::Summary),
            other => return Err(Bad::Corrupt(format!("nothing of a run is of type `{}`", other.escape_debug()))),
        }
        .map_err(corrupt)
    }
}

/// What every line has, and all that is looked at before the schema is known.
#[derive(Deserialize)]
struct Head<'a> {
    schema: Option<u64>,
    #[serde(rename = "type", borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    version: Option<Text<'a>>,
}
