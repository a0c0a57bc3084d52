//! What must be the same in every boot of a kernel, whatever its address space layout: a seed fails the same hits of the same
//! sites.
//!
//! These boot guests, so they are asked for by name: `cargo xtask test` does it for each of its kernels, and by hand
//! `INJECTOR_GUEST_KERNEL=path/to/bzImage INJECTOR_GUEST_MODULES=DIR cargo test -p injector --test boots -- --ignored`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use injector_guest::{
    Command, Engine, GuestEnd, GuestSpec, Streams,
    engines::Qemu,
    root::{self, Image},
};
use serde_json::Value;

/// A single-threaded workload that comes to two sites of the test module in turn, each many times.
const SCRIPT: &str = "insmod /injector_test.ko && grep ' _stext$' /proc/kallsyms && run=/sys/kernel/debug/injector_test/run && \
     injector --hook slab --stack injector_test_allocate --prob 0.3 --seed 42 --format json --output /tmp/run.jsonl -- sh -c \
     \"for i in 1 2 3 4 5; do echo kind=slab chain=a count=20 >$run; echo kind=slab chain=b count=20 >$run; done\" && \
     cat /tmp/run.jsonl";

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Where the kernel lay, and the sites that were failed, in order.
fn boot() -> (String, Vec<String>) {
    let path = |name: &str| PathBuf::from(env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
    let mut root = root::base(env!("CARGO_BIN_EXE_injector").as_ref()).unwrap().root;
    // Without optimisation it is large, and the root is in memory: one copy has to do.
    root.symlink("/usr/bin/injector", "/init");
    root.file(&path("INJECTOR_GUEST_MODULES").join("injector_test.ko"), "/injector_test.ko").unwrap();
    let image = Image::new(&root).unwrap();
    let mut machine = GuestSpec::new(&path("INJECTOR_GUEST_KERNEL"), vec![image.path().to_owned()]);
    machine.timeout = Some(Duration::from_secs(300));
    machine.memory_mb = 3072;
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let streams = Streams::to(Box::new(stdout.clone()), Box::new(stderr.clone()));
    let outcome = Qemu.run(&machine, &Command::new(["sh", "-c", SCRIPT]), streams).unwrap();
    let (text, errors) = (stdout.text(), stderr.text());
    assert_eq!(outcome.end, GuestEnd::Exited(0), "{text}\n{errors}");
    let (stext, lines) = text.split_once('\n').unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failures = lines.iter().filter(|line| line["type"] == "failure");
    (stext.to_owned(), failures.map(|line| line["site"].as_str().unwrap().to_owned()).collect())
}

#[test]
#[ignore = "boots guests"]
fn a_seed_fails_the_same_hits_in_every_boot() {
    let (place, failed) = boot();
    assert!((30..=90).contains(&failed.len()), "0.3 of 200: {}", failed.len());
    let mut sites = failed.clone();
    sites.sort_unstable();
    sites.dedup();
    assert_eq!(sites.len(), 2, "two chains are two sites: {sites:?}");
    // The kernel may come to lie at the same place by chance.
    for _ in 0..4 {
        let (other_place, again) = boot();
        assert_eq!(failed, again, "at {place} and at {other_place}");
        if place != other_place {
            println!("{} failures at the same hits; the kernel lay at {place} and at {other_place}", failed.len());
            return;
        }
    }
    panic!("the kernel always lies at {place}: boot it with KASLR");
}
