//! The clock of emulated guests: virtual time costs nothing while the guest waits, and a hang is found all the same.

use std::time::{Duration, Instant};

use injector::journal::Verdict;
use injector_guest::{
    Clock, Command, Engine, GuestEnd, GuestSpec, Streams,
    engines::Qemu,
    root::{self, Image},
};

use crate::ground::{FOUND, Ground, text};

/// How long a command takes in a guest, by this machine's clock. Its boot does not count.
fn takes(ground: &Ground, clock: Clock, command: &str) -> Duration {
    let mut root = root::base(env!("CARGO_BIN_EXE_injector").as_ref()).unwrap().root;
    root.symlink("/usr/bin/injector", "/init");
    let image = Image::new(&root).unwrap();
    let mut spec = GuestSpec::new(&ground.kernel, vec![image.path().to_owned()]);
    (spec.clock, spec.memory_mb) = (clock, 3072);
    let run = Qemu.run(&spec, &Command::new(["sh", "-c", command]), Streams::discard()).unwrap();
    assert_eq!(run.end, GuestEnd::Exited(0));
    run.run
}

#[test]
#[ignore = "boots guests"]
fn virtual_time_is_virtual_and_a_hang_is_found() {
    let ground = Ground::new();
    // The kernel's own clock says that a minute went by.
    let minute = "read a _ </proc/uptime; sleep 60; read b _ </proc/uptime; [ $((${b%.*} - ${a%.*})) -ge 60 ]";
    let took = takes(&ground, Clock::Virtual, minute);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let took = takes(&ground, Clock::Host, "sleep 6");
    assert!(took >= Duration::from_secs(6), "{took:?}");

    // A task that waits for ever is a hang all the same.
    let state = ground.sweep("hang", &[], "lock_held", FOUND);
    let findings = state.findings();
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!(finding.verdict, Verdict::Hang);
}

#[test]
#[ignore = "boots guests"]
fn a_budget_is_this_machines_time() {
    let ground = Ground::new();
    let journal = ground.journal("budget");
    let start = Instant::now();
    // Each run takes a minute of the guest's, and some seconds of ours.
    let work = "i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done; sleep 60; ls / >/dev/null";
    let options = ["sweep", "--journal", journal.to_str().unwrap(), "--hang", "2h", "--budget", "20s"];
    let output = ground.injector(&[&options[..], &["--", "sh", "-c", work]].concat());
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    let state = ground.state("budget");
    let spent = state.spent_time();
    assert!(!state.is_complete() && (19.0..120.0).contains(&spent), "{spent}\n{}", text(&output));
}
