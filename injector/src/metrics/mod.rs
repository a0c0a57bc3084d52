//! OpenMetrics: the counters of a run for Prometheus and its like. Names and help are those of the summary.

mod server;
mod text;

pub use server::{AddressError, Listener, Server};
pub use text::{Build, CONTENT_TYPE, text};
