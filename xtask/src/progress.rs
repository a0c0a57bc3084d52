//! Shows how far a long step is: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Elsewhere than on a terminal: how often a line.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// A step with an estimated number of parts.
pub struct Progress {
    name: String,
    total: u64,
    done: u64,
    started: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts showing it.
    pub fn new(name: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:40}] {percent}% {elapsed} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total).with_style(style).with_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        if bar.is_none() {
            eprintln!("{name}…");
        }
        let now = Instant::now();
        Self { name: name.to_owned(), total, done: 0, started: now, last_line: now, bar }
    }

    /// One part is done.
    pub fn advance(&mut self, what: &str) {
        // The total is an estimate: never claim the end before it is there.
        self.done = (self.done + 1).min(self.total.saturating_sub(1));
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done);
                bar.set_message(what.to_owned());
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                let percent = 100 * self.done / self.total.max(1);
                eprintln!("{}: {percent} % after {} s", self.name, self.started.elapsed().as_secs());
            }
            None => {}
        }
    }

    /// Ends it with a line of its own.
    pub fn finish(self) -> Duration {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        let elapsed = self.started.elapsed();
        eprintln!("{}: done in {} s", self.name, elapsed.as_secs());
        elapsed
    }
}
