//! `injector log`

use std::path::PathBuf;

use clap::Args;

/// Show what a kernel complained about in a console log or the output of dmesg
///
/// Reads the text of a serial console, of dmesg (with any options), journalctl or a syslog, also quoted in a mail. Each
/// complaint is named with its kind (oops, hang, warning, leak), a title that is the same for the same defect, the function
/// that is to blame, and the lines where the kernel reports it. Injected failures that the kernel tells of
/// (`FAULT_INJECTION: forcing a failure`) are listed as well. Where lines name their caller (CONFIG_PRINTK_CALLER), reports
/// that several CPUs print at once are told apart. Needs no privileges.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 no complaints; 1 complaints; 2 bad input: a log that can't be read, is empty, is no text, or \
is not a Linux kernel's"
)]
pub(super) struct LogArgs {
    /// One JSON object for each log instead of text
    #[arg(long)]
    pub(super) json: bool,

    /// Logs; `-` or none: standard input
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}
