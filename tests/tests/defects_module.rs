//! The modules of planted defects and of plain allocations are there together, and while nothing fails, every path
//! works, again and again, and the kernel has nothing to say.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;

use injector_tests::defects::{BAITS, DEFECTS, DIRECTORY};
use injector_tests::{KernelLog, defects, module};

/// Directory entries, sorted.
fn files() -> BTreeSet<String> {
    let entries = std::fs::read_dir(DIRECTORY).unwrap_or_else(|e| panic!("{DIRECTORY}: {e}"));
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn both_modules_load() {
    module::load();
    defects::load();
    for name in ["injector_test", "injector_defects"] {
        assert!(std::path::Path::new("/sys/module").join(name).is_dir(), "{name} is not loaded");
    }
}

/// A defect that only one of the two knows would never be looked for, or never be found.
#[test]
fn the_table_names_the_modules_files() {
    defects::load();
    let mut named = BTreeSet::new();
    for defect in DEFECTS {
        named.insert(defect.name.to_owned());
        named.insert(defect.twin());
    }
    named.extend(BAITS.iter().map(|name| (*name).to_owned()));
    assert_eq!(named, files());
}

#[test]
fn every_path_works_three_times_without_a_splat() {
    defects::load();
    let mut log = KernelLog::from_now();
    for name in files() {
        for time in 1..=3 {
            defects::write(&name).unwrap_or_else(|e| panic!("{name}, time {time}: {e}"));
        }
        log.assert_no_splat();
    }
}

#[test]
fn what_is_no_request_is_refused() {
    defects::load();
    let mut file = OpenOptions::new().write(true).open(format!("{DIRECTORY}/missing_check")).expect("it is loaded");
    for text in ["0", "x"] {
        let error = file.write(text.as_bytes()).expect_err(text);
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{text}");
    }
}

/// Else growth of a cache would say nothing about a path.
#[test]
fn the_leaks_have_caches_of_their_own() {
    defects::load();
    let slabs = std::fs::read_to_string("/proc/slabinfo").unwrap_or_else(|e| panic!("/proc/slabinfo: {e}"));
    for cache in ["injector_defects_leak_first", "injector_defects_ref_leak", "injector_defects_kept"] {
        assert!(slabs.lines().any(|line| line.split_whitespace().next() == Some(cache)), "{cache}: not in\n{slabs}");
    }
}
