//! The options of what can be asked of a run, and is shown of it, while it goes on.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::run::{LiveOptions, Place};

const LIVE: &str = "While it runs";

#[derive(Args)]
pub(super) struct LiveArgs {
    /// Listen to `injector ctl`, at a socket for root only
    ///
    /// It is /run/injector/PID.sock, where `injector ctl` looks, or PATH. One JSON object a line: {"do":"pause"}, resume,
    /// status, stop, {"do":"set","changes":["prob=0.05"]}.
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, help_heading = LIVE)]
    control: Option<Option<PathBuf>>,

    /// Serve the counters as OpenMetrics: 127.0.0.1:9099
    ///
    /// GET /metrics over HTTP. Port 0 is any free one; it is said which. Everybody who can connect can read them.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address, help_heading = LIVE)]
    metrics: Option<SocketAddr>,

    /// No status on a terminal
    ///
    /// Without it, standard error shows rates, what is lost, the sites that fail most and the time that is left, if it
    /// is a terminal and there is no command that writes there too.
    #[arg(long, help_heading = LIVE)]
    no_status: bool,
}

/// Not an address.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address with a port; write 127.0.0.1:9099, or [::1]:9099")]
struct NoAddress(String);

fn address(text: &str) -> Result<SocketAddr, NoAddress> {
    text.parse().map_err(|_| NoAddress(text.to_owned()))
}

impl LiveArgs {
    pub(super) fn options(&self) -> LiveOptions {
        let Self { control, metrics, no_status } = self;
        let place = |path: &Option<PathBuf>| path.clone().map_or(Place::Default, Place::Path);
        LiveOptions { control: control.as_ref().map(place), metrics: *metrics, no_status: *no_status }
    }
}
