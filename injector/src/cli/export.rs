//! `injector export`

use std::path::PathBuf;

use clap::Args;

/// Make a script that reproduces a finding without the injector
///
/// The script is for a shell and a kernel with the kernel's own fault injection: FAILSLAB, FAIL_PAGE_ALLOC,
/// FAULT_INJECTION_DEBUG_FS, FAULT_INJECTION_STACKTRACE_FILTER. It says what a kernel lacks. Two failures of the same hook also
/// need FAIL_FUNCTION.
#[derive(Args)]
#[command(after_help = "Exit codes: 0 the script was written; 2 wrong input, or a finding that can't be exported
Exit codes of the script: 0 reproduced, 1 not reproduced, 2 something went wrong, 4 the kernel lacks something")]
pub(super) struct ExportArgs {
    /// The sweep's journal
    pub(super) journal: PathBuf,

    /// The finding: its id, or the start of its title
    #[arg(value_name = "ID")]
    pub(super) finding: String,

    /// Write to this file; default: standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}
