//! What the oracle reads, on a real kernel: the log as it comes, what was overwritten, slab growth to the object.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

use injector::{
    kernel::KernelFiles,
    oracle::{
        kmemleak::Kmemleak,
        kmsg::KernelLog,
        rearm,
        slabs::{SlabReader, growth, leaks},
        taint::Taint,
    },
};

/// There is one log, and one slab allocator.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(text: &str) {
    let mut log = OpenOptions::new().write(true).open("/dev/kmsg").unwrap();
    // A record without its newline can't be read until the next is written.
    log.write_all(format!("{text}\n").as_bytes()).unwrap();
}

#[test]
fn the_log_as_it_comes() {
    let _alone = alone();
    let mut log = KernelLog::open_at_end().unwrap();
    say("<4>oracle: a line with a \\ and a \t in it");
    say("PANIC: double fault, says a program");
    let lines: Vec<_> = log.read().into_iter().filter(|line| line.facility == 1).collect();
    assert_eq!(lines[0].text, "oracle: a line with a \\ and a \t in it");
    assert_eq!(lines[0].level, 4);
    assert_eq!(lines[1].text, "PANIC: double fault, says a program");
    assert!(lines[1].sequence > lines[0].sequence && lines[1].time >= lines[0].time);
    say("PANIC: double fault, says a program");
    assert!(log.flush().is_empty());
    assert_eq!(log.lost(), 0);
}

/// The kernel speaks too: sysrq's help is a line of its own, and nothing to complain of.
#[test]
fn the_kernel_itself() {
    let _alone = alone();
    let mut log = KernelLog::open_at_end().unwrap();
    fs::write("/proc/sysrq-trigger", "?").unwrap();
    let lines = log.read();
    assert!(lines.iter().any(|line| line.facility == 0 && line.text.starts_with("sysrq: HELP")), "{lines:?}");
    fs::write("/proc/sysrq-trigger", "w").unwrap();
    assert!(log.flush().is_empty());
}

#[test]
fn what_was_overwritten_is_counted() {
    let _alone = alone();
    // Programs may write only a little each second otherwise.
    fs::write("/proc/sys/kernel/printk_devkmsg", "on\n").unwrap();
    let mut log = KernelLog::open_at_end().unwrap();
    say("first");
    log.read();
    let text = "x".repeat(900);
    for _ in 0..2000 {
        // not for the console, which is slow
        say(&format!("<7>{text}"));
    }
    fs::write("/proc/sys/kernel/printk_devkmsg", "ratelimit\n").unwrap();
    let read = log.read().iter().filter(|line| line.text == text).count() as u64;
    assert!(read > 0);
    assert!(log.lost() > 1000 && read + log.lost() >= 2000, "{read} read, {} lost", log.lost());
}

#[test]
fn flags_and_switches() {
    let _alone = alone();
    let files = KernelFiles::default();
    let taint = Taint::read(&files).unwrap();
    assert_eq!(taint.since(taint), Taint::default());
    rearm::warn_once(&files).unwrap();
    let timeout = files.read_text("proc/sys/kernel/hung_task_timeout_secs").unwrap();
    rearm::hung_tasks(&files, timeout.trim().parse().unwrap()).unwrap();
    assert_eq!(files.read_text("proc/sys/kernel/hung_task_warnings").unwrap().trim(), "-1");
}

/// Open files are objects of a cache: as good as lost while they are open, and gone to the last one afterwards.
#[test]
fn slab_growth() {
    let _alone = alone();
    let files = KernelFiles::default();
    let open = |count| (0..count).map(|_| File::open("/dev/null").unwrap()).collect::<Vec<_>>();
    let mut reader = SlabReader::new(files).unwrap();
    reader.read().unwrap();
    let before = reader.read().unwrap();
    let half = open(20);
    let middle = reader.read().unwrap();
    let rest = open(20);
    let after = reader.read().unwrap();
    let lost = leaks([&before, &middle, &after], 40, |_| 0);
    let of_files = lost.iter().find(|growth| growth.cache == "filp").unwrap_or_else(|| panic!("{lost:?}"));
    assert!((40..=44).contains(&of_files.objects), "{lost:?}");
    drop((half, rest));
    let grown = growth(&before, &reader.read().unwrap());
    let files_left = grown.iter().find(|growth| growth.cache == "filp").map_or(0, |growth| growth.objects);
    assert!(files_left <= 4, "{grown:?}");
}

#[test]
fn nothing_is_lost_when_nothing_happens() {
    let _alone = alone();
    let kmemleak = Kmemleak::new(KernelFiles::default());
    if !kmemleak.is_there() {
        return;
    }
    kmemleak.scan(std::time::Instant::now()).unwrap();
    kmemleak.clear().unwrap();
    assert_eq!(kmemleak.objects().unwrap(), []);
}
