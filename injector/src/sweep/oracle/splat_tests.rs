//! Real splats and their titles, and what must not change a title.

use std::{collections::BTreeSet, fs, path::PathBuf};

use proptest::prelude::*;
use regex::Captures;

use super::{
    super::{
        Kind,
        report::{KEPT_LINES, MOST_LINES},
    },
    *,
};

/// Below `tests/data/splats`. Most are consoles or logs of guests whose kernel was made to do it; those in `written` are put
/// together after the format strings of the kernel's source, and say so.
const EXPECTED: &[(&str, &[(Kind, &str)])] = &[];

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/splats"))
}

/// The text without the comment at its beginning.
fn fixture(name: &str) -> String {
    let path = directory().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().skip_while(|line| line.starts_with("# ")).map(|line| format!("{line}\n")).collect()
}

fn titles(complaints: &[Complaint]) -> Vec<(Kind, &str)> {
    complaints.iter().map(|complaint| (complaint.kind, &*complaint.title)).collect()
}

#[test]
fn titles_of_real_splats() {
    for (name, expected) in EXPECTED {
        let complaints = complaints(&fixture(name));
        assert_eq!(titles(&complaints), *expected, "{name}");
    }
}

#[test]
fn every_fixture_is_in_the_table() {
    let mut there = BTreeSet::new();
    for kernel in fs::read_dir(directory()).unwrap().map(Result::unwrap) {
        for file in fs::read_dir(kernel.path()).unwrap().map(Result::unwrap) {
            there.insert(format!("{}/{}", kernel.file_name().display(), file.file_name().display()));
        }
    }
    let expected: BTreeSet<String> = EXPECTED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, expected);
    assert_eq!(expected.len(), EXPECTED.len(), "a fixture is there twice");
}

#[test]
fn titles_name_nothing_that_varies() {
    let varies = pattern(r"0x|[0-9a-f]{8}|\b\d{2,}\b|\bCPU");
    for title in EXPECTED.iter().flat_map(|(_, expected)| *expected).map(|(_, title)| title) {
        assert!(!varies.is_match(title), "{title}");
    }
}

/// The splat holds the report from its first line to its last, and nothing else.
#[test]
fn extent_of_a_splat() {
    let text = "[    1.000000] before\n\
        [    2.000000] ------------[ cut here ]------------\n\
        [    2.000001] dummy: odd\n\
        [    2.000002] WARNING: CPU: 1 PID: 68 at drivers/misc/dummy.c:40 dummy_warn+0x12/0x20 [dummy]\r\n\
        [    2.000003][   T68] ---[ end trace 0000000000000000 ]---\n\
        [    2.000004] after\n";
    let expected = "------------[ cut here ]------------\n\
        dummy: odd\n\
        WARNING: CPU: 1 PID: 68 at drivers/misc/dummy.c:40 dummy_warn+0x12/0x20 [dummy]\n\
        ---[ end trace 0000000000000000 ]---";
    assert_eq!(complaints(text)[0].splat, expected);
}

#[test]
fn a_report_without_an_end_ends_somewhere() {
    let mut collector = Collector::new();
    collector.feed("BUG: kernel NULL pointer dereference, address: 0000000000000008");
    for line in 0..2 * MOST_LINES {
        collector.feed(&format!("line {line}"));
    }
    assert!(!collector.is_open());
    collector.flush();
    let complaints = collector.take();
    assert_eq!(titles(&complaints), [(Kind::Oops, "BUG: kernel NULL pointer dereference")]);
    assert!(complaints[0].splat.ends_with(&format!("\n[{} more lines]", MOST_LINES + 1 - KEPT_LINES)));
}

const ATOMIC: &str = "BUG: scheduling while atomic: sh/73/0x00000002\nCPU: 0 UID: 0 PID: 73 Comm: sh\nCall Trace:\n <TASK>\n\
                      \x20__schedule_bug+0x1/0x2\n foo+0x1/0x2\n </TASK>\n";
const SLEEPING: &str = "BUG: sleeping function called from invalid context at mm/x.c:3\nin_atomic(): 1\n\
                        CPU: 0 UID: 0 PID: 73 Comm: sh\nCall Trace:\n <TASK>\n bar+0x1/0x2\n </TASK>\n";
const FAULT: &str = "BUG: kernel NULL pointer dereference, address: 0000000000000008\nOops: Oops: 0000 [#1] PREEMPT SMP\n\
                     CPU: 0 UID: 0 PID: 73 Comm: sh\nRIP: 0010:baz+0x5/0x10\n---[ end trace 0000000000000000 ]---\n";
const KASAN: &str = "==================================================================\n\
                     BUG: KASAN: null-ptr-deref in baz+0x5/0x10\nCPU: 0 UID: 0 PID: 73 Comm: sh\nCall Trace:\n <TASK>\n\
                     \x20baz+0x5/0x10\n </TASK>\n\
                     ==================================================================\n";
const PANIC: &str = "Kernel panic - not syncing: Fatal exception\nKernel Offset: disabled\n";

/// The titles of what is new, of all episodes.
fn feed(collector: &mut Collector, text: &str) -> Vec<String> {
    collector.done.clear();
    let before = collector.complaints.len();
    text.lines().for_each(|line| collector.feed(line));
    let new =
        collector.done.iter().chain(&collector.complaints).skip(if collector.done.is_empty() { before } else { 0 });
    new.map(|complaint| complaint.title.clone()).collect()
}

#[test]
fn consequences_are_no_complaints() {
    for (texts, expected) in [
        (vec![SLEEPING, ATOMIC], vec!["BUG: sleeping function called from invalid context in bar"]),
        (vec![FAULT, ATOMIC, SLEEPING], vec!["BUG: kernel NULL pointer dereference in baz"]),
        (vec![KASAN, FAULT], vec!["KASAN: null-ptr-deref in baz"]),
        (vec![FAULT, PANIC, FAULT], vec!["BUG: kernel NULL pointer dereference in baz"]),
        (vec![KASAN, KASAN], vec!["KASAN: null-ptr-deref in baz"]),
    ] {
        assert_eq!(feed(&mut Collector::new(), &texts.concat()), expected);
    }
}

#[test]
fn what_is_no_consequence_is_a_complaint() {
    let other_task = ATOMIC.replace("73", "74").replace("foo", "quux");
    let other_place = FAULT.replace("baz", "quux");
    for (texts, count) in
        [(vec![SLEEPING, &other_task], 2), (vec![FAULT, &other_task], 2), (vec![KASAN, &other_place], 2)]
    {
        assert_eq!(feed(&mut Collector::new(), &texts.concat()).len(), count, "{texts:?}");
    }
}

#[test]
fn episodes() {
    let mut collector = Collector::new();
    assert_eq!(feed(&mut collector, SLEEPING).len(), 1);
    assert_eq!(feed(&mut collector, SLEEPING).len(), 0);
    collector.episode();
    assert_eq!(feed(&mut collector, SLEEPING).len(), 1, "the same at another site");
    // but a task that died stays dead, and the panic belongs to its oops
    assert_eq!(feed(&mut collector, &FAULT.replace("73", "75")).len(), 1);
    collector.episode();
    assert_eq!(feed(&mut collector, &ATOMIC.replace("73", "75")).len(), 0);
    collector.episode();
    assert_eq!(feed(&mut collector, PANIC).len(), 0);
}

#[test]
fn a_panic_by_itself_and_the_next_boot() {
    let mut collector = Collector::new();
    feed(&mut collector, PANIC);
    feed(&mut collector, FAULT);
    let boot = "Linux version 6.12.117 (root@x)\n";
    assert_eq!(feed(&mut collector, boot), ["kernel panic: Fatal exception"], "nothing told why");
    assert_eq!(feed(&mut collector, FAULT), ["BUG: kernel NULL pointer dereference in baz"]);
}

#[test]
fn lines_of_a_console() {
    for (line, text) in [
        ("[    0.000000] Linux version 6.12", "Linux version 6.12"),
        ("[12345.678901][  T12] text", "text"),
        ("[    1.000000][    C0]  <TASK>", " <TASK>"),
        ("<4>[    1.000000] text", "text"),
        ("half a line of a program[    1.000000] text", "text"),
        ("[ BUG: Invalid wait context ]", "[ BUG: Invalid wait context ]"),
        ("[<ffffffff81000000>] foo+0x1/0x2", "[<ffffffff81000000>] foo+0x1/0x2"),
        ("text", "text"),
    ] {
        assert_eq!(console_line(line), text);
    }
}

/// All fixtures, one boot after the other.
fn everything() -> String {
    EXPECTED.iter().map(|(name, _)| format!("[    0.000000] Linux version 6\n{}", fixture(name))).collect()
}

/// The same text with other addresses, offsets, pids, CPUs and times.
fn moved(text: &str, by: u64) -> String {
    let hexadecimal = |digits: &str| {
        let number = u64::from_str_radix(digits, 16).unwrap_or(0);
        // Values of the kernel's own (poison, the page of NULL, counters in brackets) are short.
        format!("{:0width$x}", number ^ (by & 0xffff_f000), width = digits.len())
    };
    let decimal = |digits: &str| (digits.parse::<u64>().unwrap_or(0) + by % 1000 + 1).to_string();
    type Change<'a> = Box<dyn Fn(&Captures<'_>) -> String + 'a>;
    let changes: [(&str, Change<'_>); 7] = [
        (r"\b(f{4}[0-9a-f]{12})\b", Box::new(|c| hexadecimal(&c[1]))),
        (r"\+0x([0-9a-f]+)/0x([0-9a-f]+)", Box::new(|c| format!("+0x{}/0x{}", hexadecimal(&c[1]), hexadecimal(&c[2])))),
        (r"(PID: |pid: |pid:)(\d+)", Box::new(|c| format!("{}{}", &c[1], decimal(&c[2])))),
        (r"(CPU: |CPU#)(\d+)", Box::new(|c| format!("{}{}", &c[1], decimal(&c[2])))),
        (r"(\b[a-z]\w*[\[/:])(\d+)([\]/ ])", Box::new(|c| format!("{}{}{}", &c[1], decimal(&c[2]), &c[3]))),
        (r"^\[ *(\d+)\.", Box::new(|c| format!("[{:>5}.", decimal(&c[1])))),
        (r"(for more than |stuck for )(\d+)", Box::new(|c| format!("{}{}", &c[1], decimal(&c[2])))),
    ];
    let changes: Vec<_> = changes.iter().map(|(find, change)| (pattern(find), change)).collect();
    let line = |line: &str| {
        let line =
            changes.iter().fold(line.to_owned(), |line, (find, change)| find.replace_all(&line, change).into_owned());
        line + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn moving_moves() {
    let text = "[    1.000000] BUG: scheduling while atomic: sh/73/0x2\n[    1.000000] CPU: 0 PID: 73 Comm: sh ffff888003bab360\n\
                [    1.000000]  foo+0x12/0x20 [m]\n";
    let expected = "[   98.000000] BUG: scheduling while atomic: sh/170/0x2\n[   98.000000] CPU: 97 PID: 170 Comm: sh ffff888003baa360\n\
                    [   98.000000]  foo+0x1012/0x1020 [m]\n";
    assert_eq!(moved(text, 4096), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// In whatever portions the text comes, and however often it is asked for what is complete.
    #[test]
    fn portions(sizes in prop::collection::vec(1usize..4000, 1..40)) {
        let text = everything();
        let whole = complaints(&text);
        let mut collector = Collector::new();
        let mut taken = Vec::new();
        let mut rest = text.as_bytes();
        for size in sizes.iter().cycle() {
            let (portion, after) = rest.split_at((*size).min(rest.len()));
            collector.console(portion);
            taken.extend(collector.take());
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        collector.flush();
        taken.extend(collector.take());
        prop_assert_eq!(taken, whole);
    }

    #[test]
    fn addresses_and_numbers_change_no_title(index in 0..EXPECTED.len(), by in any::<u64>()) {
        let (name, expected) = EXPECTED[index];
        let complaints = complaints(&moved(&fixture(name), by));
        prop_assert_eq!(titles(&complaints), expected, "{}", name);
    }

    /// A log that was cut off anywhere, and goes on with another.
    #[test]
    fn torn_text(cuts in prop::collection::vec((0..EXPECTED.len(), 0usize..6000, 0usize..6000), 1..6)) {
        let torn = |(index, from, to): &(usize, usize, usize)| {
            let text = fixture(EXPECTED[*index].0);
            let end = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let (from, to) = (end(*from), end(*to));
            text[from.min(to)..from.max(to)].to_owned()
        };
        let text: String = cuts.iter().map(torn).collect();
        for complaint in complaints(&text) {
            prop_assert!(!complaint.title.is_empty() && !complaint.splat.is_empty());
        }
    }

    #[test]
    fn any_text(text in "((\\[ *[0-9]{1,3}\\.[0-9]{6}\\] )?(BUG: |WARNING: |INFO: |Call Trace:|={20,30}|---\\[ end trace|Kernel panic - not syncing: |\\PC){0,12}\r?\n){0,20}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(complaints(&text));
        let mut collector = Collector::new();
        collector.console(&bytes);
        collector.flush();
    }
}

#[test]
fn print() {
    for file in std::env::var("SPLATS").unwrap_or_default().split_whitespace() {
        let text = fs::read_to_string(file).unwrap();
        println!("{file}");
        for complaint in complaints(&text) {
            println!("    {:?} {} [{} lines]", complaint.kind, complaint.title, complaint.splat.lines().count());
            if std::env::var("FULL").is_ok() {
                println!("{}", complaint.splat);
            }
        }
    }
}
