//! Files: written, read, damaged, gone on with.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use nix::sys::{resource, signal};
use proptest::prelude::*;

use super::samples::{A, B, a_section, armed, begin, crash, ended, failed, first, journal, site, trouble};
use crate::journal::{
    Journal, ReadError, Record, Remark, State, Verdict, WriteError, Writer, read, read_from, record::Outcome, to_line,
};

fn lines(records: &[Record]) -> Vec<u8> {
    records.iter().map(|record| to_line(record).expect("a line")).collect::<String>().into_bytes()
}

fn parsed(bytes: &[u8]) -> Journal {
    read_from(bytes, "j").expect("a journal")
}

fn refused(bytes: &[u8]) -> String {
    read_from(bytes, "j").expect_err("no journal").to_string()
}

fn remarks(journal: &Journal) -> Vec<String> {
    journal.remarks.iter().map(ToString::to_string).collect()
}

fn sample() -> Vec<Record> {
    vec![first("s"), site(A), site(B), armed(1, None), failed(1, A, Outcome::Clean), ended(1)]
}

fn write_all(path: &Path, records: &[Record]) {
    let mut writer = Writer::create(path).expect("a new file");
    for record in records {
        writer.sync(record).expect("written");
    }
}

#[test]
fn written_and_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("j.jsonl");
    write_all(&path, &sample());
    let journal = read(&path).expect("a journal");
    assert_eq!(journal.sections, super::samples::journal(vec![sample()]).sections);
    assert_eq!(journal.remarks, []);
    assert_eq!(journal.name, path.display().to_string());
}

#[test]
fn an_existing_journal_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("j.jsonl");
    fs::write(&path, "precious").expect("written");
    let error = Writer::create(&path).expect_err("it exists");
    assert!(matches!(error, WriteError::Exists(_)));
    assert!(error.to_string().ends_with(
        "exists: it is not overwritten; add --resume to go on with it, or name another file with --journal"
    ));
    assert_eq!(fs::read(&path).expect("read"), b"precious");
}

#[test]
fn one_writer_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("j.jsonl");
    let writer = Writer::create(&path).expect("a new file");
    let tail = read(&path).expect("a journal").tail;
    let error = Writer::resume(&path, &tail).expect_err("it is locked");
    assert!(error.to_string().contains("is being written by another injector"), "{error}");
    drop(writer);
    Writer::resume(&path, &tail).expect("it is free");
}

#[test]
fn a_journal_that_grew_since_it_was_read_is_not_cut() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("j.jsonl");
    fs::write(&path, [&lines(&sample()), &b"{\"type\""[..]].concat()).expect("written");
    let tail = read(&path).expect("a journal").tail;
    let grown = [&lines(&sample())[..], &lines(&sample())].concat();
    fs::write(&path, &grown).expect("written");
    assert!(matches!(Writer::resume(&path, &tail), Err(WriteError::Changed(_))));
    assert_eq!(fs::read(&path).expect("read"), grown);
}

/// Whatever was on its way when the machine went down: what was whole stays, and the sweep goes on behind it.
#[test]
fn torn_anywhere_and_resumed() {
    let directory = tempfile::tempdir().expect("a directory");
    let records = sample();
    let whole = lines(&records);
    for cut in 0..=whole.len() {
        let path = directory.path().join(format!("{cut}.jsonl"));
        fs::write(&path, &whole[..cut]).expect("written");
        let journal = read(&path).expect("a journal");
        let n = journal.sections.iter().map(|section| section.records.len() + 1).sum::<usize>();
        let ends = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
        // A line without its newline may be whole all the same.
        assert!(n == ends || (n == ends + 1 && whole.get(cut) == Some(&b'\n')), "{cut}: {n} of {ends}");
        let torn = cut > 0 && whole[cut - 1] != b'\n' && n == ends;
        let line = ends as u64 + 1;
        let expected = match (cut, torn) {
            (0, _) => vec![Remark::Empty],
            (_, true) => vec![Remark::Torn { line }],
            (_, false) => vec![],
        };
        assert_eq!(journal.remarks, expected, "{cut}");

        let mut writer = Writer::resume(&path, &journal.tail).expect("resumed");
        let again = Record::Begin(Box::new(begin("s", u32::from(n > 0))));
        writer.sync(&again).expect("written");
        writer.write(&armed(2, None)).expect("written");
        let resumed = read(&path).expect("a journal");
        let mut expected = records[..n].to_vec();
        expected.extend([again, armed(2, None)]);
        assert_eq!(resumed.sections, super::samples::journal(vec![expected]).sections, "{cut}");
        assert_eq!(resumed.remarks, [], "{cut}");
    }
}

#[test]
fn torn_is_said() {
    let journal = parsed(&[lines(&sample()), b"\0\0\0\0".to_vec()].concat());
    assert_eq!(remarks(&journal), ["line 7, the last one, is torn; it is ignored"]);
}

#[test]
fn corrupt_in_the_middle() {
    let mut all: Vec<Vec<u8>> = sample().iter().map(|record| lines(std::slice::from_ref(record))).collect();
    all[1].truncate(40);
    all[1].push(b'\n');
    all[2] = b"{\"type\":\"site\",\xff\xfe}\n".to_vec();
    all[4] = b"\0\0\0\0\0\n".to_vec();
    let journal = parsed(&all.concat());
    assert_eq!(
        remarks(&journal),
        [
            "line 2 is corrupt and left out: EOF while parsing an object",
            "line 3 is corrupt and left out: it is not text",
            "line 5 is corrupt and left out: it holds NUL bytes",
        ]
    );
    assert_eq!(journal.sections, super::samples::journal(vec![vec![first("s"), armed(1, None), ended(1)]]).sections);
}

#[test]
fn an_unknown_record_of_a_known_schema_is_left_out() {
    let journal = parsed(&[lines(&sample()), b"{\"type\":\"weather\",\"sky\":\"blue\"}\n".to_vec()].concat());
    assert_eq!(journal.sections[0].records.len(), 5);
    let [remark] = &remarks(&journal)[..] else { panic!("{:?}", journal.remarks) };
    assert!(remark.starts_with("line 7 is corrupt and left out: unknown variant `weather`"), "{remark}");
}

#[test]
fn a_newer_schema_is_refused() {
    let newer = br#"{"type":"begin","schema":3,"version":"0.9.0","everything":"else"}"#;
    let message = "j, line 1: written by injector 0.9.0 with schema 3; this is injector 0.1.0 and knows schema 2: use the newer one";
    assert_eq!(refused(newer), message);
    assert!(refused(&[lines(&sample()), newer.to_vec()].concat()).starts_with("j, line 7: written by injector 0.9.0"));
}

#[test]
fn rubbish() {
    assert_eq!(refused(b"\x7fELF\x02\x01\x01\0"), "j is not a journal: line 1 is not a record (it holds NUL bytes)");
    assert_eq!(refused(b"hello\nworld\n"), "j is not a journal: line 1 is not a record (expected value)");
    assert_eq!(refused(b"{}\n"), "j is not a journal: line 1 is not a record (missing field `type`)");
    assert!(refused(b"\xff\xff\n").contains("it is not text"));
    assert!(matches!(read(Path::new("/nonexistent/j")), Err(ReadError::Io { .. })));
    assert!(matches!(read(Path::new("/")), Err(ReadError::Io { .. })));
}

#[test]
fn nothing() {
    let journal = parsed(b"");
    assert_eq!((journal.sections.len(), remarks(&journal)), (0, vec!["the journal is empty".to_owned()]));
}

#[test]
fn the_first_line_is_lost() {
    let mut records = sample();
    records.remove(0);
    let lost = |rest: &[Record]| [b"{\"type\":\"beg\xff\n".to_vec(), lines(rest)].concat();
    // Nobody knows which kernel that was.
    assert!(refused(&lost(&records)).starts_with("j: the line that says of which kernel and workload"));
    // It was resumed, and said so again.
    records.extend([Record::Begin(Box::new(begin("s", 1))), armed(2, None)]);
    let journal = parsed(&lost(&records));
    let mut expected = records.clone();
    expected.insert(0, first("s"));
    assert_eq!(journal.sections, super::samples::journal(vec![expected]).sections);
    assert_eq!(
        journal.remarks[1].to_string(),
        "the first line of a sweep is lost; line 7, where it was resumed, stands in for it"
    );
}

/// Records of another sweep must not be taken for the one before: run 1 of the second is not run 1 of the first.
#[test]
fn the_first_line_of_a_second_section_is_lost() {
    let mut bytes = lines(&sample());
    bytes.extend(b"{\"type\":\"be\n");
    bytes.extend(lines(&[site(A), armed(1, Some(&[B])), crash(1, "oops")]));
    bytes.extend(lines(&[first("third"), site(A)]));
    let journal = parsed(&bytes);
    assert_eq!(journal.sections.len(), 2);
    assert_eq!(journal.sections[0].records, sample()[1..]);
    assert_eq!(journal.remarks[1], Remark::Stray { line: 8, records: 3 });
    assert_eq!(
        journal.remarks[1].to_string(),
        "3 records from line 8 on are left out: the line that says of which sweep they are is lost"
    );
}

#[test]
fn the_line_of_a_resumption_is_lost() {
    let mut bytes = lines(&sample());
    bytes.extend(b"{\"type\":\"begin\"\n");
    let rest = [armed(2, None), trouble(2, Some(A), Verdict::Warning, "w"), ended(2)];
    bytes.extend(lines(&rest));
    let journal = parsed(&bytes);
    assert_eq!(journal.sections.len(), 1);
    assert_eq!(journal.sections[0].records, [&sample()[1..], &rest].concat());
    assert_eq!(State::of(&journal).findings().len(), 1);
}

/// What a port got, and how much of it was there at each flush.
#[derive(Clone, Default)]
struct Port(Arc<Mutex<Sent>>);

#[derive(Clone, Default)]
struct Sent {
    bytes: Vec<u8>,
    flushed: Vec<usize>,
    full: bool,
}

impl Write for Port {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut port = self.0.lock().expect("not poisoned");
        if port.full {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        port.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut port = self.0.lock().expect("not poisoned");
        let length = port.bytes.len();
        port.flushed.push(length);
        Ok(())
    }
}

#[test]
fn through_a_port() {
    let port = Port::default();
    let mut writer = Writer::port(Box::new(port.clone()));
    writer.write(&first("s")).expect("written");
    writer.sync(&armed(1, None)).expect("written");
    writer.write(&ended(1)).expect("written");
    let sent = port.0.lock().expect("not poisoned").clone();
    assert_eq!(sent.bytes, lines(&[first("s"), armed(1, None), ended(1)]));
    assert_eq!(sent.flushed, [lines(&[first("s"), armed(1, None)]).len()]);

    port.0.lock().expect("not poisoned").full = true;
    assert!(writer.sync(&armed(2, None)).expect_err("full").to_string().contains("No space left"));
    port.0.lock().expect("not poisoned").full = false;
    // A hole in a journal would be worse than its end.
    assert!(matches!(writer.sync(&armed(3, None)), Err(WriteError::Broken)));
}

/// Set for the process that may only write so much.
const CHILD: &str = "INJECTOR_TEST_FULL_DISK";

#[test]
fn a_full_disk_leaves_whole_lines() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_until_full(Path::new(&path));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("j.jsonl");
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "journal::tests::files::a_full_disk_leaves_whole_lines"])
        .env(CHILD, &path)
        .output()
        .expect("it can be run");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let journal = read(&path).expect("a journal");
    assert_eq!((journal.sections[0].records.len(), journal.remarks), (0, vec![]));
}

fn write_until_full(path: &Path) {
    let mut writer = Writer::create(path).expect("a new file");
    writer.sync(&first("s")).expect("written");
    let room = fs::metadata(path).expect("it is there").len() + 10;
    // The file may grow by ten bytes: a part of the line is written, then comes EFBIG.
    // SAFETY: ignoring a signal runs no handler.
    unsafe { signal::signal(signal::Signal::SIGXFSZ, signal::SigHandler::SigIgn) }.expect("ignored");
    resource::setrlimit(resource::Resource::RLIMIT_FSIZE, room, room).expect("a limit");
    let error = writer.sync(&armed(1, None)).expect_err("no room");
    assert!(error.to_string().contains("can't write the journal: File too large"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read(section in a_section()) {
        let written = Journal { sections: vec![section], ..journal(vec![]) };
        let mut bytes = Vec::new();
        written.write(&mut bytes).expect("written");
        let read = parsed(&bytes);
        prop_assert_eq!(&read.sections, &written.sections);
        prop_assert_eq!(read.tail.whole, bytes.len() as u64);
    }

    #[test]
    fn damage_never_panics(section in a_section(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = Vec::new();
        Journal { sections: vec![section], ..journal(vec![]) }.write(&mut bytes).expect("written");
        for (index, byte) in hits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(journal) = read_from(&bytes[..], "j") {
            let _ = State::of(&journal).findings();
        }
    }
}
