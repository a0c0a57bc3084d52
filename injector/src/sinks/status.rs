//! How a run stands, once a second, on a terminal.

use std::{
    cmp::Reverse,
    collections::HashMap,
    io::{self, IsTerminal as _},
    rc::Rc,
    time::{Duration, Instant},
};

use super::terminal;
use crate::{
    events::{Event, frames},
    plan::Plan,
};

/// How many sites are shown.
const SITES: usize = 3;

/// The figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Nothing fails for now.
    pub paused: bool,
    /// Since it was armed.
    pub elapsed: Duration,
    /// Until the run's time is over.
    pub left: Option<Duration>,
    /// Calls that every filter accepted.
    pub matches: u64,
    /// Matches that were failed.
    pub failures: u64,
    /// Failures without an event.
    pub lost: u64,
}

/// Shows how a run stands below everything that is written. Dropping it clears the place.
#[derive(Debug, Default)]
pub struct Status {
    last: Option<(Instant, Figures)>,
    /// Sites by signature: how many events, and whose.
    sites: HashMap<u64, (u64, Rc<[String]>)>,
}

impl Status {
    /// Where it can be shown: standard error is a terminal, and no command writes to it as it likes.
    #[must_use]
    pub fn wanted(plan: &Plan) -> Option<Self> {
        (plan.target.command.is_none() && io::stderr().is_terminal()).then(Self::default)
    }

    /// Says what is being done before the run begins.
    pub fn stage(&self, what: &str) {
        terminal::draw(vec![format!("{what}…")]);
    }

    /// Counts a failure at its site.
    pub fn count(&mut self, event: &Event) {
        self.sites.entry(event.site).or_insert_with(|| (0, event.stack.clone())).0 += 1;
    }

    /// Draws it with new figures.
    pub fn draw(&mut self, figures: &Figures) {
        let now = Instant::now();
        let before = self.last.map(|(then, before)| (now.duration_since(then), before));
        self.last = Some((now, *figures));
        let mut lines = vec![line(figures, before)];
        lines.extend(most(self.sites.values()));
        terminal::draw(lines);
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        terminal::draw(Vec::new());
    }
}

/// `12 s, 48 s left  1234 matches/s  12.3 failures/s, 148 in all  0 lost`
fn line(figures: &Figures, before: Option<(Duration, Figures)>) -> String {
    let Figures { paused, elapsed, left, matches, failures, lost } = *figures;
    // At first, since the run began.
    let (span, earlier) = before.unwrap_or((elapsed, Figures::default()));
    let rate = |now: u64, then: u64| {
        let rate = now.saturating_sub(then) as f64 / span.as_secs_f64().max(1e-3);
        // Above, tenths only flicker.
        if rate >= 100.0 || rate == 0.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
    };
    let mut line = String::new();
    if paused {
        line.push_str("paused  ");
    }
    line.push_str(&seconds(elapsed));
    if let Some(left) = left {
        line.push_str(&format!(", {} left", seconds(left)));
    }
    line + &format!(
        "  {} matches/s  {} failures/s, {failures} in all  {lost} lost",
        rate(matches, earlier.matches),
        rate(failures, earlier.failures)
    )
}

/// `47 s`, `3 min 5 s`
fn seconds(duration: Duration) -> String {
    // What is left is never shown as nothing while there is something.
    let seconds = duration.as_millis().div_ceil(1000);
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

/// `most at: rpc_malloc 120, ext4_find_extent 88`
fn most<'a>(sites: impl Iterator<Item = &'a (u64, Rc<[String]>)>) -> Option<String> {
    let named = |(count, stack): &'a (u64, Rc<[String]>)| {
        let frame = frames::callers(stack).first().map_or("?", |frame| frames::function(frame));
        (*count, frame)
    };
    let mut sites: Vec<_> = sites.map(named).collect();
    sites.sort_by_key(|&(count, name)| (Reverse(count), name));
    let most: Vec<_> = sites.iter().take(SITES).map(|(count, name)| format!("{name} {count}")).collect();
    (!most.is_empty()).then(|| format!("most at: {}", most.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(seconds: u64, matches: u64, failures: u64) -> Figures {
        Figures { elapsed: Duration::from_secs(seconds), matches, failures, ..Figures::default() }
    }

    #[test]
    fn rates_are_of_the_last_second() {
        let first = Figures { left: Some(Duration::from_millis(57_300)), ..figures(2, 1000, 5) };
        assert_eq!(line(&first, None), "2 s, 58 s left  500 matches/s  2.5 failures/s, 5 in all  0 lost");
        let second = Figures { lost: 3, ..figures(65, 3000, 5) };
        let shown = line(&second, Some((Duration::from_secs(2), first)));
        assert_eq!(shown, "1 min 5 s  1000 matches/s  0 failures/s, 5 in all  3 lost");
        let paused = Figures { paused: true, ..figures(0, 0, 0) };
        assert_eq!(line(&paused, None), "paused  0 s  0 matches/s  0 failures/s, 0 in all  0 lost");
    }

    #[test]
    fn sites_by_who_asked() {
        let site = |count, frames: &[&str]| (count, frames.iter().map(|frame| (*frame).to_owned()).collect());
        let sites = [
            site(1, &["one+0x1"]),
            site(9, &["kmem_cache_alloc_noprof+0x3c", "rpc_malloc+0x89 [sunrpc]"]),
            site(5, &[]),
            site(5, &["0xffffffffc0001234"]),
        ];
        assert_eq!(most(sites.iter()).unwrap(), "most at: rpc_malloc 9, 0xffffffffc0001234 5, ? 5");
        assert_eq!(most([].iter()), None);
    }
}
