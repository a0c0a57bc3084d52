//! The journal on the host: takes a guest's lines, syncs them, and notes what they say about the guest's progress.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{VmError, console_tail::ConsoleTail, decide::BootProgress};
use crate::journal::{
    self, News, Record, Remark, State, WriteError, Writer,
    record::{Crash, CrashKind, End, Ended, RunEnd},
    to_line,
};

/// A longer line is no record: the console's text in a record is far shorter.
const LONGEST_LINE: usize = 16 << 20;

/// A journal to which guests write, one after the other.
#[derive(Debug)]
pub struct HostJournal {
    path: PathBuf,
    writer: Writer,
    /// The file is new and empty.
    untouched: bool,
    /// The part of a line that has come so far.
    tail: Vec<u8>,
    /// How many lines were no records.
    rejected: u32,
    unsynced: bool,
    /// What the records add up to.
    state: State,
    /// When this journal was opened, and how long the sweep took before, seconds.
    opened: (Instant, f64),
    /// The counts of what is new in it when the last guest booted.
    before: News,
    /// Since when the kernel of the last guest is damaged, as its sweep said.
    damaged: Option<Instant>,
}

/// What a guest sent that is not in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bytes of a line without its end.
    pub torn: usize,
    /// Number of lines that were no records.
    pub rejected: u32,
}

impl HostJournal {
    /// Opens a journal, or makes a new one. A torn last line is cut off. Returns remarks on what is wrong with the journal, too.
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
        let opened = (Instant::now(), state.spent_time());
        Ok((
            Self {
                path: path.to_owned(),
                writer,
                untouched,
                tail,
                rejected,
                unsynced,
                state,
                opened,
                before,
                damaged: None,
            },
            remarks,
        ))
    }

    /// The file's content.
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
        self.damaged = None;
    }

    /// Since when the kernel of the last guest is damaged: its sweep has nothing more to do.
    #[must_use]
    pub fn damaged(&self) -> Option<Instant> {
        self.damaged
    }

    /// Ends a sweep whose budget is used up in the place of a guest that can't.
    ///
    /// # Errors
    /// It can't be written.
    pub fn end_incomplete(&mut self) -> Result<(), WriteError> {
        if self.untouched {
            // No sweep has begun, so none can end.
            return Ok(());
        }
        let record = Record::End(End { complete: false, elapsed: self.elapsed() });
        self.state.apply(&record);
        self.writer.sync(&record)
    }

    /// How long the sweep takes so far, seconds.
    fn elapsed(&self) -> f64 {
        let (opened, earlier) = self.opened;
        earlier + opened.elapsed().as_secs_f64()
    }

    /// A guest is gone: returns its progress, and what of its lines was lost.
    pub fn end_boot(&mut self) -> (BootProgress, Lost) {
        let lost = Lost { torn: std::mem::take(&mut self.tail).len(), rejected: std::mem::take(&mut self.rejected) };
        let (now, before) = (self.state.news(), &self.before);
        let progress = BootProgress { fruitful: now.count() > before.count(), ended: now.ends() > before.ends() };
        (progress, lost)
    }

    /// Records that the guest went down.
    ///
    /// # Errors
    /// It can't be written.
    pub fn crash(&mut self, kind: CrashKind, title: String, splat: String) -> Result<(), WriteError> {
        if self.untouched {
            // No sweep has begun, so no run can be the cause.
            return Ok(());
        }
        let run = self.state.open_run();
        let record = Record::Crash(Crash { run, kind, title, splat });
        self.state.apply(&record);
        self.untouched = false;
        self.writer.sync(&record)
    }

    /// Takes bytes as they come. Whole lines that are records go into the file. Returns whether one of them arms a run.
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
            // The kernel that sent it is broken on purpose. A line that is no record would damage the journal.
            match serde_json::from_slice(&self.tail) {
                Ok(mut record) => {
                    // A guest knows neither how long boots took nor, in virtual time, what the time is.
                    if let Record::End(end) = &mut record {
                        end.elapsed = self.elapsed();
                        self.tail = to_line(&record).map_err(WriteError::Record)?.into_bytes();
                    }
                    self.state.apply(&record);
                    armed |= matches!(record, Record::Armed(_));
                    if matches!(record, Record::Ended(Ended { end: RunEnd::Damaged, .. })) {
                        self.damaged = Some(Instant::now());
                    }
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

impl Drop for HostJournal {
    fn drop(&mut self) {
        // A guest that did not boot leaves no empty journal behind.
        if self.untouched {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What a guest's data port writes to.
#[derive(Debug)]
pub struct Sink {
    journal: Arc<Mutex<HostJournal>>,
    console: ConsoleTail,
}

impl Sink {
    /// Writes to this journal. When a run is armed, the console's text so far is dropped.
    pub fn new(journal: &Arc<Mutex<HostJournal>>, console: &ConsoleTail) -> Self {
        Self { journal: Arc::clone(journal), console: console.clone() }
    }

    fn journal(&self) -> MutexGuard<'_, HostJournal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.journal().take(bytes).map_err(io::Error::other)? {
            // The guest waits until this line is stored before it injects, so nothing on the console is of that run.
            self.console.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.journal().sync().map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{
        Level, Signature,
        record::{Armed, Unreached},
    };

    fn armed(run: u32, sites: &[u64]) -> Record {
        let sites = sites.iter().copied().map(Signature).collect();
        Record::Armed(Armed { run, level: Level::WHOLE, sites: Some(sites), first: None })
    }

    fn ended(run: u32) -> Record {
        let hits = std::collections::BTreeMap::new();
        Record::Ended(Ended { run, end: RunEnd::Finished, elapsed: 1.0, status: Some(0), hits, kernel_injected: 0 })
    }

    fn line(record: &Record) -> Vec<u8> {
        let mut line = serde_json::to_vec(record).unwrap();
        line.push(b'\n');
        line
    }

    fn open(path: &Path) -> HostJournal {
        HostJournal::open(path).unwrap().0
    }

    #[test]
    fn only_whole_records_get_into_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        let mut host = open(&path);
        let (first, second) = (line(&armed(0, &[1])), line(&ended(0)));
        let sent = [&first[..], b"\xff\0rubbish\n", b"{}\n", &second[..], &first[..20]].concat();
        for portion in sent.chunks(7) {
            host.take(portion).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), [first, second].concat());
        assert_eq!(host.end_boot().1, Lost { torn: 20, rejected: 2 });
        assert_eq!(host.end_boot().1, Lost::default());
        // What the next guest sends is not glued to what the last one could not finish.
        host.take(&line(&ended(7))).unwrap();
        assert!(host.content().unwrap().ends_with(&line(&ended(7))));
    }

    #[test]
    fn a_torn_last_line_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        let whole = [crate::guests::tests::begin("s").as_bytes(), &line(&armed(3, &[1]))].concat();
        fs::write(&path, [&whole[..], b"{\"type\":\"en"].concat()).unwrap();
        let (mut host, remarks) = HostJournal::open(&path).unwrap();
        assert_eq!(remarks, [Remark::Torn { line: 3 }]);
        assert_eq!(host.content().unwrap(), whole);
        // The run that was going on is known, so a crash that is seen now belongs to it.
        host.crash(CrashKind::Panic, "BUG: x".to_owned(), String::new()).unwrap();
        let text = String::from_utf8(host.content().unwrap()).unwrap();
        assert!(
            text.ends_with("{\"type\":\"crash\",\"run\":3,\"kind\":\"panic\",\"title\":\"BUG: x\",\"splat\":\"\"}\n"),
            "{text}"
        );
    }

    #[test]
    fn a_sweep_is_ended_only_if_it_has_begun() {
        let directory = tempfile::tempdir().unwrap();
        let mut host = open(&directory.path().join("j"));
        host.end_incomplete().unwrap();
        assert!(host.content().unwrap().is_empty());
        host.begin_boot();
        host.take(&line(&armed(0, &[1]))).unwrap();
        host.end_incomplete().unwrap();
        assert!(host.end_boot().0.ended);
        let text = String::from_utf8(host.content().unwrap()).unwrap();
        assert!(text.lines().last().unwrap().starts_with(r#"{"type":"end","complete":false,"#), "{text}");
    }

    #[test]
    fn a_crash_between_runs_has_no_run() {
        let directory = tempfile::tempdir().unwrap();
        let mut host = open(&directory.path().join("j"));
        host.take(&[line(&armed(0, &[1])), line(&ended(0))].concat()).unwrap();
        host.crash(CrashKind::Reset, String::new(), String::new()).unwrap();
        let text = String::from_utf8(host.content().unwrap()).unwrap();
        assert!(text.contains("\"run\":null"), "{text}");
    }

    #[test]
    fn going_down_in_the_same_run_again_is_no_news() {
        let directory = tempfile::tempdir().unwrap();
        let mut host = open(&directory.path().join("j"));
        let mut boot = |records: &[Record]| {
            host.begin_boot();
            for record in records {
                host.take(&line(record)).unwrap();
            }
            let (progress, _) = host.end_boot();
            host.crash(CrashKind::Panic, String::new(), String::new()).unwrap();
            progress.fruitful
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
        let mut host = open(&directory.path().join("j"));
        host.begin_boot();
        host.take(&line(&Record::End(End { complete: true, elapsed: 1.0 }))).unwrap();
        assert_eq!(host.end_boot().0, BootProgress { fruitful: true, ended: true });
        host.begin_boot();
        assert_eq!(host.end_boot().0, BootProgress::default());
    }

    #[test]
    fn a_journal_has_one_writer_and_leaves_no_empty_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("j");
        let host = open(&path);
        assert!(matches!(HostJournal::open(&path), Err(VmError::Journal(WriteError::Locked(_)))));
        drop(host);
        assert!(!path.exists());
        // One that was there before is the user's, even if there is nothing in it.
        fs::write(&path, "").unwrap();
        drop(open(&path));
        assert!(path.exists());
    }

    #[test]
    fn arming_a_run_forgets_the_console_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let host = Arc::new(Mutex::new(open(&directory.path().join("j"))));
        let mut console = ConsoleTail::default();
        let mut sink = Sink::new(&host, &console);
        console.write_all(b"BUG: old\n").unwrap();
        sink.write_all(&line(&ended(0))).unwrap();
        assert!(console.report().title.is_some());
        sink.write_all(&line(&armed(1, &[1]))).unwrap();
        assert!(console.report().title.is_none());
    }
}
