//! Control, metrics and status of a run. The run answers requests between two batches of events, so only the run uses its session.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf, time::Duration};

use super::{Run, interval_of, rule_summary};
use crate::{
    control::{
        self, Answer, Ask, Change, Knob, NoKnob, Request, RequestReceiver, RequestSender, RuleState, RunState,
        Snapshot, Socket,
    },
    events::End,
    exit::Result,
    metrics,
    plan::{Plan, Probability},
    sinks::{self, Figures, Status},
};

/// How a run can be watched and controlled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveOptions {
    /// Where to open a control socket.
    pub control: Option<SocketPlace>,
    /// Serve metrics at this address.
    pub metrics: Option<SocketAddr>,
    /// Show no status, even on a terminal.
    pub no_status: bool,
}

/// Where a control socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketPlace {
    /// Where `injector ctl` looks.
    Default,
    /// Here.
    Path(PathBuf),
}

/// Sockets that are bound before anything is attached, and not served yet.
#[derive(Debug)]
pub(super) struct Listeners {
    control: Option<Socket>,
    metrics: Option<metrics::Listener>,
}

/// The sockets, served.
#[derive(Debug)]
pub(super) struct Served {
    control: Option<control::Server>,
    _metrics: Option<metrics::Server>,
}

impl Listeners {
    /// Binds the sockets.
    ///
    /// # Errors
    /// [`control::PlaceError`], [`metrics::AddressError`]: bad input.
    pub(super) fn open(options: &LiveOptions) -> Result<Self> {
        let LiveOptions { control, metrics, no_status: _ } = options;
        let control = match control {
            None => None,
            Some(SocketPlace::Default) => Some(Socket::bind(None)?),
            Some(SocketPlace::Path(path)) => Some(Socket::bind(Some(path))?),
        };
        Ok(Self { control, metrics: metrics.map(metrics::Listener::bind).transpose()? })
    }

    /// Serves them, and prints where they are.
    ///
    /// # Errors
    /// When tokio can't watch them.
    pub(super) fn serve(self, build: metrics::Build, sender: &RequestSender) -> Result<Served> {
        let Self { control, metrics } = self;
        if let Some(socket) = &control {
            sinks::announce(format_args!("control: {}", socket.path().display()));
        }
        if let Some(listener) = &metrics {
            sinks::announce(format_args!("metrics: http://{}/metrics", listener.address()));
        }
        let control = control.map(|socket| control::Server::start(socket, sender.clone())).transpose()?;
        let metrics = metrics.map(|listener| metrics::Server::start(listener, build, sender.clone())).transpose()?;
        Ok(Served { control, _metrics: metrics })
    }
}

impl Served {
    /// Ends it after the last answer was sent.
    pub(super) async fn close(self) {
        if let Some(control) = self.control {
            control.close().await;
        }
    }
}

/// The present settings of a rule.
#[derive(Clone, Copy, Debug)]
struct Knobs {
    probability: Probability,
    rate: Option<NonZeroU64>,
}

/// The run's side of control and status.
#[derive(Debug)]
pub(super) struct Live {
    receiver: RequestReceiver,
    paused: bool,
    /// In the plan's order.
    knobs: Vec<Knobs>,
    status: Option<Status>,
}

impl Live {
    /// How often the status is drawn.
    pub(super) const DRAW: Duration = Duration::from_secs(1);

    pub(super) fn new(plan: &Plan, receiver: RequestReceiver, status: Option<Status>) -> Self {
        let knobs = |rule: &crate::plan::Rule| Knobs { probability: rule.policy.probability, rate: rule.policy.rate };
        Self { receiver, paused: false, knobs: plan.rules.iter().map(knobs).collect(), status }
    }

    /// The next request.
    pub(super) async fn asked(&mut self) -> Ask {
        self.receiver.next().await
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
        // Clients that wait, or ask from now on, get an error.
        self.receiver = control::requests().1;
    }
}

impl Run<'_> {
    /// Answers a request. Some: the run ends.
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

    /// Carries out a client's request.
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

    /// Changes settings: all, or none if one can't be changed.
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

    /// The state of the run.
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
