//! A few lines at the lower end of a terminal that are drawn anew while everything else scrolls by above them.

use std::{
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use console::{Term, truncate_str};

/// The lines. The process has one terminal, and log messages come from several threads.
static BLOCK: Mutex<Block> = Mutex::new(Block { lines: Vec::new(), drawn: 0, within_a_line: false });

struct Block {
    lines: Vec<String>,
    /// How many of them are on the terminal.
    drawn: usize,
    /// What was written last has not ended its line.
    within_a_line: bool,
}

fn block() -> MutexGuard<'static, Block> {
    BLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Block {
    /// A terminal that is gone is no reason to end a run: errors are left alone.
    fn hide(&mut self) {
        if self.drawn > 0 {
            let _ = Term::stderr().clear_last_lines(self.drawn);
            self.drawn = 0;
        }
    }

    fn show(&mut self) {
        if self.lines.is_empty() || self.within_a_line {
            return;
        }
        let term = Term::stderr();
        // A line that fills the width would count as two on some terminals.
        let width = usize::from(term.size().1).saturating_sub(1);
        let lines: String = self.lines.iter().map(|line| truncate_str(line, width, "…") + "\n").collect();
        if term.write_str(&lines).is_ok() {
            self.drawn = self.lines.len();
        }
    }
}

/// Shows these lines instead of those before; none: nothing.
pub(super) fn draw(lines: Vec<String>) {
    let mut block = block();
    block.hide();
    block.lines = lines;
    block.show();
}

/// Writes above the lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Above<W>(pub(super) W);

impl<W: Write> Write for Above<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut block = block();
        block.hide();
        let written = self.0.write(bytes);
        if let Ok(length) = written
            && let Some(last) = bytes[..length].last()
        {
            block.within_a_line = *last != b'\n';
        }
        block.show();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Standard error; on a terminal, above a run's status.
#[must_use]
pub fn stderr() -> impl Write {
    Above(io::stderr())
}
