//! What the controller and its guests print, line by line.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

/// A line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The job that it is about, if there are several.
    pub job: Option<u32>,
    /// Whether a guest printed it, and not the controller.
    pub guest: bool,
    /// The line, without its newline.
    pub text: String,
}

/// Takes lines, from several threads.
pub type Show = Arc<dyn Fn(&Line) + Send + Sync>;

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(job) = self.job {
            write!(f, "[{job}] ")?;
        }
        f.write_str(&self.text)
    }
}

/// Takes a guest's output and shows it line by line.
pub struct Output {
    job: Option<u32>,
    show: Show,
    partial: Vec<u8>,
    last: Arc<Mutex<String>>,
}

/// A line that is longer is shown in parts.
const LONGEST: usize = 16 << 10;

impl Output {
    /// Shows lines, and keeps the last line that is not empty in `last`.
    pub fn new(job: Option<u32>, show: &Show, last: &Arc<Mutex<String>>) -> Self {
        Self { job, show: Arc::clone(show), partial: Vec::new(), last: Arc::clone(last) }
    }

    fn line(&mut self) {
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).trim_end().to_owned();
        if !text.is_empty() {
            text.clone_into(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner));
        }
        (self.show)(&Line { job: self.job, guest: true, text });
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            match byte {
                b'\n' => self.line(),
                _ => self.partial.push(byte),
            }
            if self.partial.len() >= LONGEST {
                self.line();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_have_their_job() {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&shown);
        let show: Show = Arc::new(move |line| lines.lock().unwrap().push(line.to_string()));
        let last = Arc::default();
        let mut output = Output::new(Some(3), &show, &last);
        for portion in ["one\ntw", "o\r\n\nthr", "ee"] {
            output.write_all(portion.as_bytes()).unwrap();
        }
        assert_eq!(*shown.lock().unwrap(), ["[3] one", "[3] two", "[3] "]);
        assert_eq!(*last.lock().unwrap(), "two");
        drop(output);
        assert_eq!(shown.lock().unwrap().last().unwrap(), "[3] three");
    }
}
