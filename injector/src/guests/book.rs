//! The journal on the host: takes a guest's lines whole, syncs them, and knows what they tell of the guest.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{VmError, decide::Deeds, witness::Witness};
use crate::journal::{
    self, News, Record, Remark, State, WriteError, Writer,
    record::{Crash, CrashKind},
};

/// A longer line is none: a console's text in a record stays far below.
const LONGEST_LINE: usize = 16 << 20;

/// A journal that guests write to, one after the other.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    writer: Writer,
    /// Nothing was in it, and nothing was written.
    untouched: bool,
    /// What came and has no newline yet.
    tail: Vec<u8>,
    /// Lines that were no records.
    rejected: u32,
    unsynced: bool,
    /// What the records add up to.
    state: State,
    /// The same counts when the last guest booted.
    before: News,
}

/// What was lost with a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bytes of a line that did not come to its end.
    pub torn: usize,
    /// Lines that were no records.
    pub rejected: u32,
}

impl Book {
    /// Opens a journal, or begins one. A torn last line is cut off; what is wrong with the journal comes with it.
    ///
    /// # Errors
    /// [`VmError::Unreadable`], [`VmError::Journal`].
    pub fn open(path: &Path) -> Result<(Self, Vec<Remark>), VmError> {
        let mut state = State::default();
        let mut remarks = Vec::new();
        let untouched = !path.exists();
        let writer = if untouched {
            Writer::create(path)?
        } else {
            let journal = journal::read(path)?;
            state = State::of(&journal);
            remarks = journal.remarks;
            Writer::resume(path, &journal.tail)?
        };
        let (tail, rejected, unsynced) = (Vec::new(), 0, false);
        let before = state.news().clone();
        Ok((Self { path: path.to_owned(), writer, untouched, tail, rejected, unsynced, state, before }, remarks))
    }

    /// All that is in it.
    ///
    /// # Errors
    /// It can't be read.
    pub fn content(&self) -> Result<Vec<u8>, WriteError> {
        let path = &self.path;
        fs::read(path).map_err(|error| WriteError::Io { path: path.clone(), action: "read", error })
    }

    /// A guest is about to boot.
    pub fn begin_boot(&mut self) {
        self.before = self.state.news().clone();
    }

    /// A guest is gone; what did it do, and what came of it that can't be kept?
    pub fn end_boot(&mut self) -> (Deeds, Lost) {
        let lost = Lost { torn: std::mem::take(&mut self.tail).len(), rejected: std::mem::take(&mut self.rejected) };
        let (now, before) = (self.state.news(), &self.before);
        let deeds = Deeds { fruitful: now.count() > before.count(), ended: now.ends() > before.ends() };
        (deeds, lost)
    }

    /// Writes down that the machine went down.
    ///
    /// # Errors
    /// It can't be written.
    pub fn crash(&mut self, kind: CrashKind, title: String, splat: String) -> Result<(), WriteError> {
        if self.untouched {
            // No sweep has begun: there is nothing that it could be a part of, and nothing was armed.
            return Ok(());
        }
        let run = self.state.open_run();
        let record = Record::Crash(Crash { run, kind, title, splat });
        self.state.apply(&record);
        self.untouched = false;
        self.writer.sync(&record)
    }

    /// Takes bytes as they come; whole lines that are records go into the file. True: a run was armed.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, WriteError> {
        let mut out = Vec::with_capacity(bytes.len() + self.tail.len());
        let mut armed = false;
        for portion in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.tail.len() < LONGEST_LINE {
                self.tail.extend_from_slice(portion);
            }
            if !portion.ends_with(b"\n") {
                continue;
            }
            // The kernel that sent it is being broken on purpose: what is no record would be damage in the journal.
            match serde_json::from_slice(&self.tail) {
                Ok(record) => {
                    self.state.apply(&record);
                    armed |= matches!(record, Record::Armed(_));
                    out.append(&mut self.tail);
                }
                Err(_) => self.rejected += 1,
            }
            self.tail.clear();
        }
        if !out.is_empty() {
            self.untouched = false;
            self.unsynced = true;
            self.writer.append_lines(&out, false)?;
        }
        Ok(armed)
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        if std::mem::take(&mut self.unsynced) { self.writer.append_lines(&[], true) } else { Ok(()) }
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        // A guest that never came up leaves no empty journal behind.
        if self.untouched {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What a guest's data port writes to.
#[derive(Debug)]
pub struct Sink {
    book: Arc<Mutex<Book>>,
    witness: Witness,
}

impl Sink {
    /// Into this book. When a run is armed, the console so far is of no interest any more.
    pub fn new(book: &Arc<Mutex<Book>>, witness: &Witness) -> Self {
        Self { book: Arc::clone(book), witness: witness.clone() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.book().take(bytes).map_err(io::Error::other)? {
            // The guest waits for this line to be stored before it injects: nothing of that run is on the console yet.
            self.witness.forget();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.book().sync().map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{
        Level, Signature,
        record::{Armed, End, Ended, RunEnd, Unreached},
    };

    fn armed(run: u32, sites: &[u64]) -> Record {
        let sites = sites.iter().copied().map(Signature).collect();
        Record::Armed(Armed { run, level: Level::WHOLE, sites: Some(sites), first: None })
    }

    fn ended(run: u32) -> Record {
        let hits = std::collections::BTreeMap::new();
        Record::Ended(Ended { run, end: RunEnd::Finished, elapsed: 1.0, status: Some(0), hits })
    }

    fn line(record: &Record) -> Vec<u8> {
        let mut line = serde_json::to_vec(record).unwrap();
        line.push(b'\n');
        line
    }

    fn open(path: &Path) -> Book {
        Book::open(path).unwrap().0
    }

    #[test]
    fn only_whole_records_get_into_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        let mut book = open(&path);
        let (first, second) = (line(&armed(0, &[1])), line(&ended(0)));
        let sent = [&first[..], b"\xff\0rubbish\n", b"{}\n", &second[..], &first[..20]].concat();
        for portion in sent.chunks(7) {
            book.take(portion).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), [first, second].concat());
        assert_eq!(book.end_boot().1, Lost { torn: 20, rejected: 2 });
        assert_eq!(book.end_boot().1, Lost::default());
        // What the next guest sends is not glued to what the last one could not finish.
        book.take(&line(&ended(7))).unwrap();
        assert!(book.content().unwrap().ends_with(&line(&ended(7))));
    }

    #[test]
    fn a_torn_last_line_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        let whole = [crate::sweep::vm::tests::begin("s").as_bytes(), &line(&armed(3, &[1]))].concat();
        fs::write(&path, [&whole[..], b"{\"type\":\"en"].concat()).unwrap();
        let (mut book, remarks) = Book::open(&path).unwrap();
        assert_eq!(remarks, [Remark::Torn { line: 3 }]);
        assert_eq!(book.content().unwrap(), whole);
        // The run that was going on is known, so a crash that is seen now belongs to it.
        book.crash(CrashKind::Panic, "BUG: x".to_owned(), String::new()).unwrap();
        let text = String::from_utf8(book.content().unwrap()).unwrap();
        assert!(
            text.ends_with("{\"type\":\"crash\",\"run\":3,\"kind\":\"panic\",\"title\":\"BUG: x\",\"splat\":\"\"}\n"),
            "{text}"
        );
    }

    #[test]
    fn a_crash_between_runs_has_no_run() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = open(&directory.path().join("j"));
        book.take(&[line(&armed(0, &[1])), line(&ended(0))].concat()).unwrap();
        book.crash(CrashKind::Reset, String::new(), String::new()).unwrap();
        let text = String::from_utf8(book.content().unwrap()).unwrap();
        assert!(text.contains("\"run\":null"), "{text}");
    }

    #[test]
    fn going_down_in_the_same_run_again_is_no_news() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = open(&directory.path().join("j"));
        let mut boot = |records: &[Record]| {
            book.begin_boot();
            for record in records {
                book.take(&line(record)).unwrap();
            }
            let (deeds, _) = book.end_boot();
            book.crash(CrashKind::Panic, String::new(), String::new()).unwrap();
            deeds.fruitful
        };
        assert!(boot(&[armed(0, &[1, 2])]));
        assert!(!boot(&[armed(1, &[1, 2])]));
        assert!(boot(&[armed(2, &[1])]), "narrowing down is news");
        assert!(!boot(&[]));
        let record_run = Record::Armed(Armed { run: 3, level: Level::RECORD, sites: None, first: None });
        assert!(!boot(&[record_run, ended(3)]), "nothing was failed in it");
        assert!(boot(&[Record::Unreached(Unreached { sites: Vec::new(), why: String::new() })]));
    }

    #[test]
    fn the_end_of_the_sweep_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = open(&directory.path().join("j"));
        book.begin_boot();
        book.take(&line(&Record::End(End { complete: true, elapsed: 1.0 }))).unwrap();
        assert_eq!(book.end_boot().0, Deeds { fruitful: true, ended: true });
        book.begin_boot();
        assert_eq!(book.end_boot().0, Deeds::default());
    }

    #[test]
    fn a_journal_has_one_writer_and_leaves_no_empty_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        let book = open(&path);
        assert!(matches!(Book::open(&path), Err(VmError::Journal(WriteError::Locked(_)))));
        drop(book);
        assert!(!path.exists());
        // One that was there before is the user's, even if there is nothing in it.
        fs::write(&path, "").unwrap();
        drop(open(&path));
        assert!(path.exists());
    }

    #[test]
    fn arming_a_run_forgets_the_console_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let book = Arc::new(Mutex::new(open(&directory.path().join("j"))));
        let mut witness = Witness::default();
        let mut sink = Sink::new(&book, &witness);
        witness.write_all(b"BUG: old\n").unwrap();
        sink.write_all(&line(&ended(0))).unwrap();
        assert!(witness.last_words().title.is_some());
        sink.write_all(&line(&armed(1, &[1]))).unwrap();
        assert!(witness.last_words().title.is_none());
    }
}
