//! What can be asked of a run while it goes on: a Unix socket that only root can connect to, one JSON object a line in both
//! directions, and the client that talks to it.

mod change;
mod client;
mod place;
mod protocol;
mod requests;
mod server;
mod text;

pub use change::{Change, ChangeError, Knob, NoKnob};
pub use client::{ClientError, Which, ask};
pub use place::{PlaceError, Socket};
pub use protocol::{Answer, Counts, HookStatus, LINE_LIMIT, Malformed, Request, RuleStatus, RunState, Status};
pub use requests::{Ask, RequestReceiver, RequestSender, RuleState, Snapshot, requests};
pub use server::Server;
