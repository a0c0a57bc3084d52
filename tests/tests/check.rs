//! `injector check`, and the same list before every run.

use std::{fs, time::Duration};

use injector::kernel::{Facts, KernelFiles, Survey};
use injector::plan::Hook;
use injector_tests::daemon::INJECTOR;
use injector_tests::{bpf, shell};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// The prerequisites, in whatever frame of JSON they come.
fn checks(text: &str) -> Vec<Value> {
    let values: Vec<Value> = serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| panic!("{e}: {text}"));
    let [value] = &values[..] else { return values };
    value.as_array().or_else(|| value["checks"].as_array()).unwrap_or_else(|| panic!("no checks in {text}")).clone()
}

#[test]
fn in_the_guest_everything_is_there() {
    let output = shell::output(INJECTOR, &["check"], LIMIT);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for word in ["CONFIG_BPF_KPROBE_OVERRIDE", "should_failslab", "should_fail_alloc_page", "debugfs"] {
        assert!(text.to_lowercase().contains(&word.to_lowercase()), "{word} is not checked:\n{text}");
    }
    let output = shell::output(INJECTOR, &["check", "--json"], LIMIT);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let checks = checks(&text);
    assert!(checks.len() >= 6, "{text}");
    for check in &checks {
        assert!(check["name"].is_string() && check["detail"].is_string(), "{check}");
        assert!(check["state"] == "found" || check["required"] == false, "{check}");
    }
    assert!(bpf::ours().is_empty());
}

/// In a mount namespace of its own, where a file system that it needs is not mounted, or hidden: said with the remedy,
/// exit code 3, and nothing is loaded.
#[test]
fn what_is_missing_is_named_with_its_remedy() {
    for (prepare, missing) in
        [("umount -l /sys/kernel/debug", "debugfs"), ("mount -t tmpfs none /sys/kernel/btf", "btf")]
    {
        let inside = |run: &str| {
            let script = format!("{prepare} || exit 99; {INJECTOR} {run}");
            shell::output("/bin/sh", &["-c", &format!("unshare -m sh -c '{script}'")], LIMIT)
        };
        let output = inside("check --json");
        let text = String::from_utf8_lossy(&output.stdout);
        let what = format!("{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(3), "{what}");
        let missing_checks: Vec<_> = checks(&text).into_iter().filter(|check| check["state"] == "missing").collect();
        assert!(missing_checks.iter().any(|check| check.to_string().to_lowercase().contains(missing)), "{what}");
        for check in &missing_checks {
            assert!(check["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "no remedy: {check}");
        }
        let output = inside("--prob 0 --duration 1s");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.to_lowercase().contains(missing), "{stderr}");
        assert!(bpf::ours().is_empty());
    }
}

/// The kernel tells addresses neither in the file nor to a program that asks for them.
#[test]
fn hidden_addresses_are_said() {
    const SETTING: &str = "/proc/sys/kernel/kptr_restrict";
    let before = fs::read_to_string(SETTING).expect("readable");
    fs::write(SETTING, "2").expect("writable");
    let outputs = ["check", "--prob 0 --duration 1s"]
        .map(|arguments| shell::output(INJECTOR, &arguments.split(' ').collect::<Vec<_>>(), LIMIT));
    fs::write(SETTING, before).expect("writable");
    for output in outputs {
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("/proc/kallsyms hides the addresses (kernel.kptr_restrict)"), "{text}");
    }
    assert!(bpf::ours().is_empty());
}

/// A run asks the kernel for the few addresses that it needs, `injector check` reads all that the kernel has.
#[test]
fn addresses_that_are_asked_for_are_those_of_the_file() {
    let files = KernelFiles::default();
    let [read, asked] = [Survey::take(&files), Survey::quick(&files)]
        .map(|survey| survey.into_facts().expect("a kernel that can be injected into"));
    let of = |facts: &Facts| {
        let hooks = Hook::NAMED.map(|hook| facts.addresses.get(facts.injectable.function_of(hook)));
        (facts.text, facts.irq_entry, facts.per_cpu_offsets, facts.preempt_count, hooks)
    };
    assert_eq!(of(&asked), of(&read));
    assert!(asked.per_cpu_offsets.is_some() && asked.preempt_count.is_some());
    // A run does not read the file for them: without it it has no names, and works. The list of what is needed has it.
    for (arguments, code) in [("--prob 0 --duration 1s", 0), ("check", 3)] {
        let run = format!("mount --bind /dev/null /proc/kallsyms || exit 99; {INJECTOR} {arguments}");
        let output = shell::output("unshare", &["-m", "sh", "-c", &run], LIMIT);
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(code == 0 || text.contains("kallsyms"), "{text}");
    }
}

#[test]
fn not_root_is_said() {
    for arguments in [&["check"][..], &["--prob", "0", "--duration", "1s"]] {
        let mut child = std::process::Command::new(INJECTOR);
        child.args(arguments);
        let output = std::os::unix::process::CommandExt::uid(&mut child, 65534).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {text}");
        assert!(text.contains("root") || text.contains("CAP_"), "{arguments:?}: {text}");
    }
}
