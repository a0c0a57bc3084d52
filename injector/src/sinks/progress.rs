//! How far something is, in one line: drawn anew on a terminal, elsewhere printed now and then.

use std::{
    fmt,
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use super::{stderr, terminal};

/// How often the line is drawn on a terminal.
const DRAWN: Duration = Duration::from_millis(500);
/// How often it is printed elsewhere.
const PRINTED: Duration = Duration::from_secs(5);

/// The line of progress. It goes when this is dropped.
#[derive(Debug)]
pub struct Progress {
    /// Begins each line.
    name: &'static str,
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    /// Of something with this name.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, terminal: std::io::stderr().is_terminal(), shown: None }
    }

    /// Shows the line, if it is time to.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        let often = if self.terminal { DRAWN } else { PRINTED };
        if self.shown.is_some_and(|shown| shown.elapsed() < often) {
            return;
        }
        self.shown = Some(Instant::now());
        let line = format!("{}: {}", self.name, line());
        if self.terminal {
            terminal::draw(vec![line]);
        } else {
            let _ = writeln!(stderr(), "{line}");
        }
    }

    /// Says something else, above the line.
    pub fn say(&self, message: fmt::Arguments<'_>) {
        // In one piece: other threads write, too.
        let _ = stderr().write_all(format!("{}: {message}\n", self.name).as_bytes());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            terminal::draw(Vec::new());
        }
    }
}
