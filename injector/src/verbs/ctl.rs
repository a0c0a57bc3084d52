//! `injector ctl`: talks to a run that is going on.

use std::io::{self, Write as _};

use injector::{
    control::{self, Request, Which},
    exit::{Context as _, ExitCode, Result},
};

/// Sends a request to a run and prints the run's state.
pub fn ctl(run: &Which, request: &Request, json: bool) -> Result<ExitCode> {
    let status = control::ask(run, request)?;
    let text = match request {
        Request::Status {} if json => serde_json::to_string(&status)? + "\n",
        Request::Status {} => status.to_string(),
        Request::Set { .. } => format!("{}\n{}", status.headline(), status.knobs()),
        Request::Pause {} | Request::Resume {} | Request::Stop {} => format!("{}\n", status.headline()),
    };
    io::stdout().write_all(text.as_bytes()).context("can't write the answer")?;
    Ok(ExitCode::OK)
}
