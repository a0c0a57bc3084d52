//! `injector ctl`: talks to a run that is going on.

use injector::{
    control::{self, Request, Which},
    exit::{ExitCode, Result},
    sinks,
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
    sinks::print(|out| out.write_all(text.as_bytes()))?;
    Ok(ExitCode::OK)
}
