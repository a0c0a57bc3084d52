//! Loops over a stack's frames: kernels before 5.17 have no bpf_loop(), and there another helper makes them. Both find the same.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use injector::cli::{self, Command};
use injector::kernel::{Facts, KernelFiles};
use injector::session::{ProgramConfig, RuleArming, Session, deadline_in};
use injector::target::Targets;
use injector_common::config::{OFF, ON};
use injector_tests::{Worker, bpf, module};

const ALWAYS: RuleArming = RuleArming { threshold: 1 << 32, budget: None, interval: None };

/// How often each site failed, and its frames. `bpf_loop`: which helper.
fn sites(backend: &str, filters: &[&str], bpf_loop: u32) -> BTreeMap<u64, (u64, Vec<u64>)> {
    let worker = Worker::start();
    let pid = worker.pid_arg();
    let words = [&["injector", "--backend", backend, "--pid", &pid, "--prob", "1"], filters].concat();
    let plan = match cli::parse(words.iter().map(OsString::from)) {
        Ok(Command::Run(plan, ..)) => plan,
        _ => panic!("{words:?} is no run"),
    };
    let files = KernelFiles::default();
    let facts = Facts::read(&files).expect("a kernel that can be injected into");
    let targets = Targets::open(&plan.target).expect("the worker");
    let (mut wires, _) = ProgramConfig::resolve(&plan, &facts, &files, &targets).expect("a plan for this kernel");
    assert_eq!(wires[0].config.bpf_loop, ON, "every kernel that this is tested on has it");
    wires[0].config.bpf_loop = bpf_loop;
    let (mut session, _streams) = Session::attach(&wires, false).unwrap_or_else(|error| panic!("{words:?}: {error:#}"));
    session.arm(&[ALWAYS], deadline_in(Duration::from_secs(60)));
    for (kind, chain, depth) in
        [("slab", "a", 0), ("slab", "b", 0), ("page", "a", 0), ("slab", "b", 30), ("page", "b", 60)]
    {
        worker.run(&format!("kind={kind} chain={chain} depth={depth} count=20"));
    }
    session.detach();
    let sites = session.rules()[0].sites().expect("readable");
    let frames = |len: u32, frames: &[u64]| frames[..len as usize].to_vec();
    sites
        .into_iter()
        .filter(|(_, site)| site.count > 0)
        .map(|(signature, site)| (signature, (site.count, frames(site.frames_len, &site.frames))))
        .collect()
}

#[test]
fn both_helpers_find_the_same_sites() {
    module::load();
    for backend in ["kprobe", "fmod-ret"] {
        for (filters, failures) in [
            (&[][..], 100),
            (
                &[
                    "--stack",
                    "do_syscall_64..injector_test_chain_b",
                    "--caller",
                    "injector_test_*",
                    "--not-stack",
                    "injector_test_chain_a",
                ],
                60,
            ),
        ] {
            let [with, without] = [ON, OFF].map(|bpf_loop| sites(backend, filters, bpf_loop));
            let sum = |sites: &BTreeMap<u64, (u64, Vec<u64>)>| sites.values().map(|(count, _)| count).sum::<u64>();
            assert_eq!(sum(&with), failures, "{backend} {filters:?}: {with:x?}");
            assert_eq!(without, with, "{backend} {filters:?}");
        }
    }
    assert!(bpf::ours().is_empty());
}
