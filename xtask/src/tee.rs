//! Output of a guest, kept for whoever reads it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Keeps output, and passes it on if it is loud.
#[derive(Clone)]
pub struct Tee {
    loud: bool,
    kept: Arc<Mutex<Vec<u8>>>,
}

impl Tee {
    /// Passes on to standard output what it keeps.
    pub fn loud() -> Self {
        Self { loud: true, kept: Arc::default() }
    }

    /// Only keeps.
    pub fn quiet() -> Self {
        Self { loud: false, kept: Arc::default() }
    }

    /// What came so far.
    pub fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        String::from_utf8_lossy(&kept).into_owned()
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.loud {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()?;
        }
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}
