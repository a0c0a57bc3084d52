//! Output of a guest, kept for whoever reads it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Keeps output, and may pass it on.
#[derive(Clone, Default)]
pub struct Tee {
    onward: Onward,
    kept: Arc<Mutex<Vec<u8>>>,
}

/// Where output goes besides being kept.
#[derive(Clone, Default)]
enum Onward {
    #[default]
    Nowhere,
    Stdout,
    Tee(Box<Tee>),
}

impl Tee {
    /// Passes on to standard output what it keeps.
    pub fn loud() -> Self {
        Self { onward: Onward::Stdout, kept: Arc::default() }
    }

    /// Only keeps.
    pub fn quiet() -> Self {
        Self::default()
    }

    /// One more that passes on to this one what it keeps.
    pub fn branch(&self) -> Self {
        Self { onward: Onward::Tee(Box::new(self.clone())), kept: Arc::default() }
    }

    /// What came so far.
    pub fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        String::from_utf8_lossy(&kept).into_owned()
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.onward {
            Onward::Nowhere => {}
            Onward::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()?;
            }
            Onward::Tee(tee) => tee.write_all(bytes)?,
        }
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_keep_their_own_and_their_origin_all() {
        let all = Tee::quiet();
        let (mut one, mut other) = (all.branch(), all.branch());
        one.write_all(b"a").unwrap();
        other.write_all(b"b").unwrap();
        one.write_all(b"c").unwrap();
        assert_eq!((one.text(), other.text(), all.text()), ("ac".to_owned(), "b".to_owned(), "abc".to_owned()));
    }
}
