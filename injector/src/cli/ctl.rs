//! `injector ctl`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Command;
use crate::control::{Change, Request, Which};

/// Pause, change, ask or stop a run that was started with --control
#[derive(Args)]
#[command(
    arg_required_else_help = false,
    after_help = "Exit codes: 0 it was done, 2 bad input: no such run, several to choose from, not root, or the run refused"
)]
pub(super) struct CtlArgs {
    /// The run's socket, as it said at its start
    ///
    /// Without this and --pid, it is the only run that has one in /run/injector.
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    socket: Option<PathBuf>,

    /// The injector with this process id
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    #[command(subcommand)]
    wish: Wish,
}

#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum Wish {
    /// Fail and count nothing until `resume`; the run's time goes on
    Pause,
    /// Go on
    Resume,
    /// Change knobs, all or none: prob=0.05 rate=100/s times=10
    ///
    /// prob: how likely a match fails. rate: failures per second, of a run that was started with --rate. times: so many
    /// more failures from now on; when they are used up, it is as with --times. RULE.prob=0.05 names the rule, if there are
    /// several.
    Set {
        /// KNOB=VALUE or RULE.KNOB=VALUE
        #[arg(required = true, value_name = "CHANGE")]
        changes: Vec<Change>,
    },
    /// Say how it stands
    Status {
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// End it in order, as Ctrl-C does, and wait for its end
    Stop,
}

impl CtlArgs {
    pub(super) fn into_command(self) -> Command {
        let Self { socket, pid, wish } = self;
        let run = match (socket, pid) {
            (Some(socket), _) => Which::Socket(socket),
            (None, Some(pid)) => Which::Process(pid),
            (None, None) => Which::Only,
        };
        let mut json = false;
        let request = match wish {
            Wish::Pause => Request::Pause {},
            Wish::Resume => Request::Resume {},
            Wish::Set { changes } => Request::Set { changes },
            Wish::Status { json: wanted } => {
                json = wanted;
                Request::Status {}
            }
            Wish::Stop => Request::Stop {},
        };
        Command::Control { run, request, json }
    }
}
