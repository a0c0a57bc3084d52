//! `injector check`

use clap::Args;

/// List what the injector needs, whether it is there, and what to do if it is not
#[derive(Args)]
#[command(after_help = "Exit codes: 0 everything is there, 3 something is missing")]
pub(super) struct CheckArgs {
    /// One JSON object instead of the list
    #[arg(long)]
    pub(super) json: bool,
}
