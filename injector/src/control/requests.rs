//! The channel from servers to the run. The run answers when it has its turn, so only the run uses its session.

use std::{num::NonZeroU64, rc::Rc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{Answer, Request};
use crate::{events::HookSummary, plan::Probability};

/// How many requests can be queued.
const WAITING: usize = 16;

/// A request that waits for an answer.
#[derive(Debug)]
pub enum Ask {
    /// From a client of the control socket.
    Request(Request, oneshot::Sender<Answer>),
    /// From a reader of the metrics.
    Counts(oneshot::Sender<Snapshot>),
}

/// The state of a run.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Nothing fails for now.
    pub paused: bool,
    /// It is a dry run.
    pub dry_run: bool,
    /// Since it was armed.
    pub elapsed: Duration,
    /// Until `--duration` is over.
    pub left: Option<Duration>,
    /// Failures whose event arrived.
    pub delivered: u64,
    /// In the plan's order.
    pub rules: Vec<RuleState>,
}

/// The state of a rule.
#[derive(Clone, Debug)]
pub struct RuleState {
    /// Its name.
    pub name: Rc<str>,
    /// The probability that a match fails.
    pub probability: Probability,
    /// The limit of failures per second.
    pub rate: Option<NonZeroU64>,
    /// How many failures are left of `--times`.
    pub left: Option<u64>,
    /// The counters of each hook.
    pub hooks: Vec<HookSummary>,
}

/// The run's end of the channel.
#[derive(Debug)]
pub struct RequestReceiver(mpsc::Receiver<Ask>);

/// The servers' end of the channel.
#[derive(Clone, Debug)]
pub struct RequestSender(mpsc::Sender<Ask>);

/// Makes the channel.
#[must_use]
pub fn requests() -> (RequestSender, RequestReceiver) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (RequestSender(sender), RequestReceiver(receiver))
}

impl RequestReceiver {
    /// The next request. It waits for ever when all senders are gone.
    pub async fn next(&mut self) -> Ask {
        match self.0.recv().await {
            Some(ask) => ask,
            None => std::future::pending().await,
        }
    }
}

impl RequestSender {
    /// Sends a request. None: the run has ended.
    pub async fn request(&self, request: Request) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Ask::Request(request, reply)).await.ok()?;
        answer.await.ok()
    }

    /// The state of the run. None: it has ended.
    pub async fn counts(&self) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Ask::Counts(reply)).await.ok()?;
        answer.await.ok()
    }
}
