//! `injector ctl`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Command;
use crate::control::{Change, Request, Which};

/// Pause, change, query or stop a run that was started with --control
#[derive(Args)]
#[command(
    arg_required_else_help = false,
    after_help = "Exit codes: 0 success, 2 wrong input: no such run, several runs to choose from, not root, or the run refused"
)]
pub(super) struct CtlArgs {
    /// The socket that the run printed when it started
    ///
    /// Without --socket and --pid, the only run with a socket in /run/injector is meant.
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
    /// Fail and count nothing until `resume`; the run's --duration goes on
    Pause,
    /// Continue after `pause`
    Resume,
    /// Change settings, all or none: prob=0.05 rate=100/s times=10
    ///
    /// prob is the probability that a match fails. rate is the number of failures per second; the run must have been started
    /// with --rate. times allows this many more failures, counted from now. With several rules, RULE.prob=0.05 names the rule.
    Set {
        /// SETTING=VALUE or RULE.SETTING=VALUE
        #[arg(required = true, value_name = "CHANGE")]
        changes: Vec<Change>,
    },
    /// Show the state of the run
    Status {
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// End the run as Ctrl-C does, and wait until it has ended
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
