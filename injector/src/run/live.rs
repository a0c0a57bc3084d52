//! What can be asked of a run, and what is shown of it, while it goes on. All of it is answered between two batches of
//! events, so nothing but the run touches its session.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf, time::Duration};

use super::{Run, interval_of, rule_summary};
use crate::{
    control::{self, Answer, Ask, Change, Clerk, Desk, Knob, NoKnob, Request, RuleState, RunState, Snapshot, Socket},
    events::End,
    exit::Result,
    metrics,
    plan::{Plan, Probability},
    sinks::{self, Figures, Status},
};

/// What is wanted while a run goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveOptions {
    /// A control socket.
    pub control: Option<Place>,
    /// Metrics at this address.
    pub metrics: Option<SocketAddr>,
    /// No status, even on a terminal.
    pub no_status: bool,
}

/// Where a control socket is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where `injector ctl` looks.
    Default,
    /// Here.
    Path(PathBuf),
}

/// What others can connect to, taken before anything is attached and served by nobody yet.
#[derive(Debug)]
pub(super) struct Doors {
    control: Option<Socket>,
    metrics: Option<metrics::Listener>,
}

/// The same, served.
#[derive(Debug)]
pub(super) struct Served {
    control: Option<control::Server>,
    _metrics: Option<metrics::Server>,
}

impl Doors {
    /// Takes them.
    ///
    /// # Errors
    /// [`control::PlaceError`], [`metrics::AddressError`]: bad input.
    pub(super) fn open(options: &LiveOptions) -> Result<Self> {
        let LiveOptions { control, metrics, no_status: _ } = options;
        let control = match control {
            None => None,
            Some(Place::Default) => Some(Socket::bind(None)?),
            Some(Place::Path(path)) => Some(Socket::bind(Some(path))?),
        };
        Ok(Self { control, metrics: metrics.map(metrics::Listener::bind).transpose()? })
    }

    /// Serves them, and says where they are.
    ///
    /// # Errors
    /// When tokio can't watch them.
    pub(super) fn serve(self, build: metrics::Build, clerk: &Clerk) -> Result<Served> {
        let Self { control, metrics } = self;
        if let Some(socket) = &control {
            sinks::announce(format_args!("control: {}", socket.path().display()));
        }
        if let Some(listener) = &metrics {
            sinks::announce(format_args!("metrics: http://{}/metrics", listener.address()));
        }
        let control = control.map(|socket| control::Server::start(socket, clerk.clone())).transpose()?;
        let metrics = metrics.map(|listener| metrics::Server::start(listener, build, clerk.clone())).transpose()?;
        Ok(Served { control, _metrics: metrics })
    }
}

impl Served {
    /// Ends it; what was answered arrives.
    pub(super) async fn close(self) {
        if let Some(control) = self.control {
            control.close().await;
        }
    }
}

/// How the knobs of a rule stand, as they were given.
#[derive(Clone, Copy, Debug)]
struct Knobs {
    probability: Probability,
    rate: Option<NonZeroU64>,
}

/// What a run needs for it.
#[derive(Debug)]
pub(super) struct Live {
    desk: Desk,
    paused: bool,
    /// In the plan's order.
    knobs: Vec<Knobs>,
    status: Option<Status>,
}

impl Live {
    /// How often the status is drawn.
    pub(super) const DRAW: Duration = Duration::from_secs(1);

    pub(super) fn new(plan: &Plan, desk: Desk, status: Option<Status>) -> Self {
        let knobs = |rule: &crate::plan::Rule| Knobs { probability: rule.policy.probability, rate: rule.policy.rate };
        Self { desk, paused: false, knobs: plan.rules.iter().map(knobs).collect(), status }
    }

    /// The next question.
    pub(super) async fn asked(&mut self) -> Ask {
        self.desk.next().await
    }

    /// Whether a status is shown.
    pub(super) fn has_status(&self) -> bool {
        self.status.is_some()
    }

    /// The status, if it is shown.
    pub(super) fn status(&mut self) -> Option<&mut Status> {
        self.status.as_mut()
    }

    /// Nothing is answered and shown any more: the run is ending.
    pub(super) fn end(&mut self) {
        self.status = None;
        // Who asks from now on, and who waits, learns that nobody answers.
        self.desk = control::desk().1;
    }
}

impl Run<'_> {
    /// Answers a question; some when it was to end the run.
    pub(super) fn answer(&mut self, ask: Ask) -> Option<End> {
        match ask {
            Ask::Counts(reply) => {
                // Who asked may be gone.
                let _ = reply.send(self.snapshot());
                None
            }
            Ask::Request(request, reply) => {
                let stop = matches!(request, Request::Stop {});
                let answer = self.obey(request).map_or_else(|why| Answer::Refused(why.to_string()), Answer::Done);
                let _ = reply.send(answer);
                stop.then_some(End::Control)
            }
        }
    }

    /// Does what a client wants.
    fn obey(&mut self, request: Request) -> Result<control::Status, NoKnob> {
        let mut stopping = false;
        match request {
            Request::Pause {} => {
                self.session.pause();
                self.live.paused = true;
            }
            Request::Resume {} => {
                self.session.resume();
                self.live.paused = false;
            }
            Request::Set { changes } => self.set(&changes)?,
            Request::Status {} => {}
            Request::Stop {} => stopping = true,
        }
        let mut status = control::Status::from(&self.snapshot());
        if stopping {
            status.state = RunState::Stopping;
        }
        Ok(status)
    }

    /// Changes knobs: all, or none when one can't be.
    fn set(&mut self, changes: &[Change]) -> Result<(), NoKnob> {
        let names: Vec<&str> = self.plan.rules.iter().map(|rule| rule.name.as_str()).collect();
        let mut places = Vec::with_capacity(changes.len());
        for change in changes {
            let place = change.place(&names)?;
            // Without one, the verifier has removed what it is for.
            if matches!(change.knob, Knob::Rate(_)) && self.live.knobs[place].rate.is_none() {
                return Err(NoKnob::NoRate(names[place].to_owned()));
            }
            places.push((place, change.knob));
        }
        for (place, knob) in places {
            let (rule, knobs) = (self.session.rule(place), &mut self.live.knobs[place]);
            match knob {
                Knob::Probability(probability) => {
                    rule.set_threshold(probability.threshold());
                    knobs.probability = probability;
                }
                Knob::Rate(rate) => {
                    rule.set_interval(interval_of(rate));
                    knobs.rate = Some(rate);
                }
                Knob::Times(times) => rule.allow_more(times.get()),
            }
        }
        Ok(())
    }

    /// How the run stands.
    fn snapshot(&self) -> Snapshot {
        let rules = self.rules.iter().zip(self.session.rules()).zip(&self.live.knobs);
        let elapsed = self.armed.elapsed();
        Snapshot {
            paused: self.live.paused,
            dry_run: self.plan.dry_run,
            elapsed,
            left: self.plan.limits.duration.map(|duration| duration.saturating_sub(elapsed)),
            delivered: self.delivered,
            rules: rules
                .map(|((name, rule), knobs)| RuleState {
                    name: name.clone(),
                    probability: knobs.probability,
                    rate: knobs.rate,
                    left: rule.left(),
                    hooks: rule_summary((name, rule)).hooks,
                })
                .collect(),
        }
    }

    /// Draws the status with new figures.
    pub(super) fn draw(&mut self) {
        if self.live.has_status() {
            let figures = figures(&self.snapshot());
            if let Some(status) = self.live.status() {
                status.draw(&figures);
            }
        }
    }
}

fn figures(snapshot: &Snapshot) -> Figures {
    let total = control::Status::from(snapshot).total();
    Figures {
        paused: snapshot.paused,
        elapsed: snapshot.elapsed,
        left: snapshot.left,
        matches: total.matches,
        failures: total.failures,
        lost: total.lost,
    }
}
