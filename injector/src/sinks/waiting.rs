//! What is being waited for, on a terminal: a spinner with the time that it takes, below the lines that are said.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often it moves.
const STEP: Duration = Duration::from_millis(250);

/// A spinner. Elsewhere than on a terminal there is nothing to be seen of it; it goes when it is dropped.
#[derive(Debug)]
pub struct Waiting(ProgressBar);

impl Waiting {
    /// Begins to wait.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(STEP);
        Self(bar)
    }

    /// It was waited for something, and now for something (else), from the beginning.
    pub fn next(&self, what: &str) {
        self.0.reset_elapsed();
        if self.0.message() != what {
            self.0.set_message(what.to_owned());
        }
    }

    /// Writes above it.
    pub fn above(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
