//! Which way to attach is chosen, by what the kernel was built with and how it preempts. The same tests say different things in
//! a guest with preempt=full, in one with preempt=voluntary, and on a kernel without overrides.

use std::time::Duration;

use injector::kernel::{KernelFiles, Options};
use injector_tests::daemon::INJECTOR;
use injector_tests::{Injector, Worker, module, refused, shell};
use serde_json::json;

struct Kernel {
    /// CONFIG_BPF_KPROBE_OVERRIDE.
    overrides: bool,
    /// Tasks are preempted in the kernel.
    preemptible: bool,
}

impl Kernel {
    fn this() -> Self {
        let overrides =
            Options::read(&KernelFiles::default()).expect("/proc/config.gz").is_on("CONFIG_BPF_KPROBE_OVERRIDE");
        let modes = std::fs::read_to_string("/sys/kernel/debug/sched/preempt").expect("a kernel with PREEMPT_DYNAMIC");
        let preemptible = modes.contains("(full)");
        assert!(preemptible || modes.contains("(voluntary)"), "{modes}");
        Self { overrides, preemptible }
    }
}

/// What the injector says it attached by fmod_ret, of slab and page; all of its failures are where they belong.
fn by_fmod_ret(backend: &str) -> serde_json::Value {
    let worker = Worker::start();
    let injector = Injector::start(&["--backend", backend, "--pid", &worker.pid_arg(), "--prob", "1"]);
    let failed = ["kind=slab count=100", "kind=page order=0 count=100"].map(|request| worker.run(request).failed);
    let report = injector.stop();
    assert!(failed.iter().all(|failed| (1..=100).contains(failed)), "{failed:?}");
    report.assert_accounts_with_lines();
    report.start["fmod_ret"].clone()
}

/// Where a trampoline's program is preempted it misses calls; where a kprobe's can't replace calls there is no choice.
#[test]
fn auto_goes_by_the_kernel() {
    let kernel = Kernel::this();
    let expected = if kernel.preemptible && kernel.overrides { json!([]) } else { json!(["slab", "page"]) };
    assert_eq!(by_fmod_ret("auto"), expected);
}

#[test]
fn fmod_ret_is_there_always() {
    assert_eq!(by_fmod_ret("fmod-ret"), json!(["slab", "page"]));
}

#[test]
fn kprobes_need_overrides() {
    module::load();
    if Kernel::this().overrides {
        assert_eq!(by_fmod_ret("kprobe"), json!([]));
        return;
    }
    let output = shell::output(INJECTOR, &["--backend", "kprobe", "--prob", "0.1"], Duration::from_secs(60));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("use a kernel with CONFIG_BPF_KPROBE_OVERRIDE=y"), "{stderr}");
    // A function that returns NULL when it fails can only be failed by a kprobe.
    refused(&["--hook", "page-pool", "--prob", "0.1"], 2, &["page-pool", "CONFIG_BPF_KPROBE_OVERRIDE"]);
}
