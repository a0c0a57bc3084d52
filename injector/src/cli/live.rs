//! The options of what can be asked of a run, and is shown of it, while it goes on.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::foreign::Foreign;
use crate::run::{LiveOptions, SocketPlace};

const LIVE: &str = "While it runs";

#[derive(Args)]
pub(super) struct LiveArgs {
    /// Let `injector ctl` control the run, through a socket for root only
    ///
    /// The socket is /run/injector/PID.sock, where `injector ctl` looks, or PATH. The protocol is one JSON object per line:
    /// {"do":"pause"}, resume, status, stop, {"do":"set","changes":["prob=0.05"]}.
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, help_heading = LIVE)]
    control: Option<Option<PathBuf>>,

    /// Serve the counters as OpenMetrics: 127.0.0.1:9099
    ///
    /// GET /metrics over HTTP. With port 0 the kernel chooses a free port, which the injector prints. Everybody who can
    /// connect can read the counters.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address, help_heading = LIVE)]
    metrics: Option<SocketAddr>,

    /// Show no status on a terminal
    ///
    /// The status shows rates, lost events, the most frequent sites and the time left. It is shown on standard error if that
    /// is a terminal and no command writes there too.
    #[arg(long, help_heading = LIVE)]
    no_status: bool,
}

/// Not an address.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address with a port; write 127.0.0.1:9099, or [::1]:9099")]
struct NoAddress(Foreign);

fn address(text: &str) -> Result<SocketAddr, NoAddress> {
    text.parse().map_err(|_| NoAddress(text.into()))
}

impl LiveArgs {
    pub(super) fn options(&self) -> LiveOptions {
        let Self { control, metrics, no_status } = self;
        let place = |path: &Option<PathBuf>| path.clone().map_or(SocketPlace::Default, SocketPlace::Path);
        LiveOptions { control: control.as_ref().map(place), metrics: *metrics, no_status: *no_status }
    }
}
