//! Between a run and those who ask: a run answers when it has its turn, so nothing else touches its session.

use std::{num::NonZeroU64, rc::Rc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{Answer, Request};
use crate::{events::HookSummary, plan::Probability};

/// How many may wait for an answer; more wait for their turn to ask.
const WAITING: usize = 16;

/// What is asked.
#[derive(Debug)]
pub enum Ask {
    /// By a client of the control socket.
    Request(Request, oneshot::Sender<Answer>),
    /// By a reader of the metrics.
    Counts(oneshot::Sender<Snapshot>),
}

/// How a run stands.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Nothing fails for now.
    pub paused: bool,
    /// Everything but the failing is done.
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

/// How a rule stands.
#[derive(Clone, Debug)]
pub struct RuleState {
    /// Its name.
    pub name: Rc<str>,
    /// How likely a match fails.
    pub probability: Probability,
    /// How many failures a second there may be.
    pub rate: Option<NonZeroU64>,
    /// How many failures there may still be.
    pub left: Option<u64>,
    /// What was counted, per hook.
    pub hooks: Vec<HookSummary>,
}

/// Where a run hears what is asked.
#[derive(Debug)]
pub struct Desk(mpsc::Receiver<Ask>);

/// Takes questions to the desk.
#[derive(Clone, Debug)]
pub struct Clerk(mpsc::Sender<Ask>);

/// A desk, and who takes questions to it.
#[must_use]
pub fn desk() -> (Clerk, Desk) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Clerk(sender), Desk(receiver))
}

impl Desk {
    /// The next question; waits for ever when nobody can ask.
    pub async fn next(&mut self) -> Ask {
        match self.0.recv().await {
            Some(ask) => ask,
            None => std::future::pending().await,
        }
    }
}

impl Clerk {
    /// What the run says; `None` when it has ended.
    pub async fn request(&self, request: Request) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Ask::Request(request, reply)).await.ok()?;
        answer.await.ok()
    }

    /// How the run stands; `None` when it has ended.
    pub async fn counts(&self) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Ask::Counts(reply)).await.ok()?;
        answer.await.ok()
    }
}
