//! The daemon's end, however it comes: nothing stays in the kernel, and allocations succeed again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use injector_tests::{Injector, Worker, bpf};

fn clock() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to this stack.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// xorshift64: the moments need not be good random numbers, only different ones.
struct Moments(u64);

impl Moments {
    fn next(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        limit.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[test]
fn killed_at_50_random_moments_it_leaves_nothing() {
    let worker = Worker::start();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut moments = Moments(seed);
    let pid = worker.pid_arg();
    let first = Injector::start(&["--pid", &pid]);
    // From before the load until well after it is armed.
    let span = first.armed_after.mul_f64(1.5);
    assert_eq!(worker.run("kind=slab count=10").failed, 10);
    first.kill();
    bpf::gone_within(Duration::from_secs(1), "killed when armed");
    let mut loaded = 0;
    let mut slowest = Duration::ZERO;
    for round in 0..50 {
        let injector = Injector::spawn(&["--pid", &pid, "--ttl", "1h"]);
        let moment = moments.next(span);
        let until = Instant::now() + moment;
        // Half of the rounds with the hooks in use at the end.
        if round % 2 == 0 {
            worker.send("kind=slab count=2000000");
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        loaded += u32::from(!bpf::ours().is_empty());
        injector.kill();
        let when = format!("round {round}, killed after {moment:?} (seed {seed})");
        slowest = slowest.max(bpf::gone_within(Duration::from_secs(1), &when));
        if round % 2 == 0 {
            worker.receive();
        }
        for kind in ["slab", "page"] {
            assert_eq!(worker.run(&format!("kind={kind} count=1000")).failed, 0, "{when}");
        }
    }
    println!("within {span:?}; {loaded} of 50 had programs loaded; gone after {slowest:?} at most");
    assert!(loaded >= 5, "only {loaded} of 50 rounds had anything loaded: the moments are chosen badly");
}

#[test]
fn a_stopped_daemon_fails_nothing_after_its_ttl() {
    let worker = Worker::start();
    for ttl in [Duration::from_millis(500), Duration::from_secs(2)] {
        let text = format!("{}ms", ttl.as_millis());
        let injector = Injector::start(&["--pid", &worker.pid_arg(), "--ttl", &text, "--quiet"]);
        // Longer than the TTL: the heartbeat keeps it going.
        let hammered = Instant::now();
        while hammered.elapsed() < ttl + Duration::from_millis(300) {
            assert_eq!(worker.run("kind=slab count=1000").failed, 1000, "the heartbeat did not keep up");
        }
        injector.signal(libc::SIGSTOP);
        let stopped = clock();
        let mut last = Duration::ZERO;
        loop {
            let outcome = worker.run("kind=slab count=1000");
            last = last.max(Duration::from_nanos(outcome.last_failed_ns));
            if outcome.failed == 0 && clock() > stopped + ttl {
                break;
            }
            assert!(
                clock() < stopped + ttl + Duration::from_secs(2),
                "failures go on {:?} after the stop",
                clock() - stopped
            );
        }
        let after = last.saturating_sub(stopped);
        println!("--ttl {text}: last failure {after:?} after the stop");
        assert!(last > stopped, "failures ended with the stop, not with the TTL");
        assert!(after <= ttl + Duration::from_millis(50), "--ttl {text}: failures until {after:?} after the stop");
        injector.signal(libc::SIGCONT);
        let report = injector.stop();
        assert!(report.hook("slab").get("expired") >= 1000, "{}", report.summary);
        report.assert_accounts();
    }
}

#[test]
fn signals_end_it_with_a_summary() {
    let worker = Worker::start();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let injector = Injector::start(&["--pid", &worker.pid_arg(), "--hook", "slab"]);
        let outcome = worker.run("kind=slab count=100");
        injector.signal(signal);
        let report = injector.finish_well();
        assert_eq!((outcome.failed, report.end()), (100, "signal"));
        report.assert_accounts_with_lines();
        assert_eq!(worker.run("kind=slab count=100").failed, 0);
    }
}

/// Two at once: each has its own filters and its own books.
#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let (one, two) = (Worker::start(), Worker::start());
    let first = Injector::start(&["--hook", "slab", "--pid", &one.pid_arg()]);
    let second = Injector::start(&["--hook", "page", "--pid", &two.pid_arg()]);
    assert_eq!((one.run("kind=slab count=50").failed, one.run("kind=page count=50").failed), (50, 0));
    assert_eq!((two.run("kind=slab count=50").failed, two.run("kind=page count=50").failed), (0, 50));
    second.signal(libc::SIGINT);
    assert_eq!(one.run("kind=slab count=50").failed, 50);
    first.signal(libc::SIGINT);
    let (first, second) = (first.finish_unchecked(), second.finish_unchecked());
    assert_eq!((first.report.total("failures"), second.report.total("failures")), (100, 50));
    bpf::gone_within(Duration::from_secs(1), "after both");
}
