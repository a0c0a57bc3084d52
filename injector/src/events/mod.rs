//! From the ring buffer to owned events: [`decode`] checks bytes, [`symbolize`] names addresses, [`model`] is what
//! the sinks get.

pub mod decode;
pub mod frames;
pub mod model;
pub mod rings;
pub mod symbolize;

pub use decode::{DecodeError, Record, decode};
pub use model::{
    Context, End, Event, HookSummary, Outcome, OutcomeKind, Outcomes, RuleSummary, SiteSummary, Start, Summary,
    Unmatched,
};
pub use rings::Rings;
pub use symbolize::Symbolizer;
