//! What is read from kernels, with what real kernels said (tests/data, one directory for each).
//!
//! `cargo xtask fixture KERNEL` adds one: it copies the files out of a guest booted with slab_merge, with injector_test loaded,
//! and calls the test `make` here, which keeps of them what `fixture::cut_down` names.

mod fixture;

use std::path::{Path, PathBuf};

use injector::check::{self, Caller, Check, Checklist, Needs, Presence};
use injector::kernel::caches::{Caches, NoSuchCache};
use injector::kernel::features::{Answer, Feature};
use injector::kernel::gfp::Source;
use injector::kernel::hooks::{HookError, Injectable, resolve};
use injector::kernel::kallsyms::Kallsyms;
use injector::kernel::{Facts, Features, KernelFiles, Offsets, Survey};
use injector::plan::{Backend, CachePattern, Filter, GfpFilter, Hook, Policy, Rule, StackPattern};
use proptest::prelude::*;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn files(kernel: &str) -> KernelFiles {
    KernelFiles::new(data().join(kernel))
}

fn facts(kernel: &str) -> Facts {
    Facts::read(&files(kernel)).unwrap_or_else(|error| panic!("{kernel}: {error}"))
}

fn root() -> Caller {
    Caller {
        uid: 0,
        capabilities: Some(u64::MAX),
        pid_namespace: Some("pid:[4026531836]".to_owned()),
        cgroup_namespace: Some("cgroup:[4026531835]".to_owned()),
    }
}

/// With all of eBPF that there is.
fn checked(files: &KernelFiles, caller: &Caller) -> Checklist {
    checked_with(files, caller, &[], &Needs::all())
}

/// Without these features of eBPF.
fn checked_with(files: &KernelFiles, caller: &Caller, absent: &[Feature], needs: &Needs) -> Checklist {
    let answer = |feature| if absent.contains(&feature) { Answer::Absent } else { Answer::Present };
    check::run(files, &Survey::of_another(files, Features::with(answer)), caller, needs)
}

fn only_missing(report: &Checklist) -> &Check {
    let missing: Vec<&Check> = report.missing().collect();
    assert_eq!(missing.len(), 1, "{report}");
    missing[0]
}

#[test]
#[ignore = "makes a fixture out of INJECTOR_FIXTURE"]
fn make() {
    let from = PathBuf::from(std::env::var_os("INJECTOR_FIXTURE").expect("INJECTOR_FIXTURE is set"));
    let release = KernelFiles::new(&from).release().expect("has a release");
    fixture::cut_down(&from, &data().join(release.as_str()));
}

/// All kernels in tests/data.
fn kernels() -> Vec<String> {
    let entries = std::fs::read_dir(data()).expect("tests/data is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

/// Those that can be injected into.
fn supported() -> Vec<String> {
    kernels().into_iter().filter(|kernel| !kernel.starts_with("5.10.")).collect()
}

#[test]
fn every_kernel_has_what_a_run_needs() {
    for kernel in supported() {
        let report = checked(&files(&kernel), &root());
        assert!(report.is_ok(), "{kernel}:\n{report}");
        // Page pools are there in 6.1, but not listed; what the module would make is not known before it is loaded.
        let not_found = report.checks.iter().filter(|check| check.state != Presence::Found);
        let not_found: Vec<(&str, bool)> = not_found.map(|check| (check.name.as_str(), check.required)).collect();
        let by_module = [("injector_hooks", false), ("hook vmalloc", false), ("hook percpu", false)];
        let mut expected = by_module.to_vec();
        if kernel.starts_with("6.1.") {
            expected.insert(1, ("hook page-pool", false));
        }
        assert_eq!(not_found, expected, "{kernel}:\n{report}");

        let facts = facts(&kernel);
        assert_eq!(facts.release.as_str(), kernel);
        assert!(facts.text.0 < facts.text.1);
        assert!(
            facts.irq_entry.iter().all(|(start, end)| facts.text.0 <= *start && start < end && *end <= facts.text.1)
        );
        for hook in Hook::MEMORY {
            let address = facts.addresses.get(hook.function()).expect("the hook is there");
            assert!((facts.text.0..facts.text.1).contains(&address));
        }
        assert!(facts.per_cpu_offsets.is_some());
        // A place in each CPU's area; since 6.15 it is given as a kernel address (arch/x86/kernel/vmlinux.lds.S).
        let in_area = |address: u64| address < 1 << 20 || address > facts.text.0;
        assert!(facts.preempt_count.is_some_and(in_area), "{kernel}: {:x?}", facts.preempt_count);
        assert!(facts.offsets.task_flags.is_some());

        for (name, bit) in [("NOFAIL", 0x8000), ("IO", 0x40), ("FS", 0x80), ("DIRECT_RECLAIM", 0x400), ("ZERO", 0x100)]
        {
            assert_eq!(facts.gfp.bit(name), Some(bit), "{kernel}: {name}");
        }
        assert_eq!(facts.gfp.format(0xcc0), "GFP_KERNEL");
        assert_eq!(facts.gfp.format(0xdc0), "GFP_KERNEL|__GFP_ZERO");
        assert_eq!(facts.gfp.format(0xc40 | 0x8000), "GFP_NOFS|__GFP_NOFAIL");
        assert_eq!(facts.gfp.format(0), "none");
        assert_eq!(facts.gfp.parse("GFP_NOIO|__GFP_NOWARN").expect("known"), 0x2c00);
        assert!(facts.gfp.parse("GFP_NOPE").is_err());
        for name in ["NOFS", "NOIO", "KERNEL", "ATOMIC", "NOWAIT", "USER", "HIGHUSER"] {
            let filter = GfpFilter::any_of(vec![name.parse().expect("known")]).expect("one");
            assert_eq!(filter.resolve(&facts.gfp).expect("every kernel has these").len(), 1);
        }

        let symbols = Kallsyms::read(&files(&kernel)).expect("readable");
        let xfs: StackPattern = "xfs_trans_*".parse().expect("a glob");
        assert!(!symbols.ranges(&[xfs]).expect("there are some").is_empty());
        let slab = symbols.symbol("should_failslab").expect("there");
        assert_eq!(Some(slab), facts.addresses.get("should_failslab"));
        let found = symbols.lookup_return(slab + 5).expect("there");
        assert_eq!((found.name, found.offset, found.module), ("should_failslab", 5, None));
    }
}

#[test]
fn linux_6_12() {
    let facts = facts("6.12.117");
    assert_eq!(facts.gfp.source(), Source::Btf);
    assert_eq!(facts.gfp.format(0x2800), "GFP_NOWAIT");
    assert_eq!(facts.gfp.format(0x820), "GFP_ATOMIC");
    let Offsets {
        task_flags,
        cache_object_size,
        cache_name,
        task_pid,
        task_tgid,
        task_exit_code,
        // The fixture's types were cut down without those of PIDs; the guest test `container` shows them.
        pid_namespaces: _,
        pcpu_hot_preempt_count,
    } = facts.offsets;
    // As pahole reads them out of the vmlinux with debug information.
    assert_eq!((task_pid, task_tgid, task_exit_code), (Some(1120), Some(1124), Some(1020)));
    assert_eq!((task_flags, cache_object_size, cache_name), (Some(44), Some(28), Some(88)));
    assert_eq!(pcpu_hot_preempt_count, Some(8));
    assert_eq!(facts.preempt_count, facts.addresses.get("pcpu_hot").map(|hot| hot + 8));
}

#[test]
fn linux_7_3() {
    let facts = facts("7.3.4");
    assert_eq!(facts.gfp.source(), Source::Btf);
    assert_eq!(facts.gfp.format(0x820), "GFP_ATOMIC");
    let Offsets { task_flags, cache_object_size, cache_name, task_pid, task_tgid, task_exit_code, .. } = facts.offsets;
    // As pahole reads them out of the vmlinux with debug information.
    assert_eq!((task_pid, task_tgid, task_exit_code), (Some(1208), Some(1212), Some(1108)));
    assert_eq!((task_flags, cache_object_size, cache_name), (Some(44), Some(28), Some(88)));
    assert_eq!(facts.preempt_count, facts.addresses.get("__preempt_count"));
}

/// What the injector needs is read from it all the same: what it lacks is of eBPF (docs/kernel.md).
#[test]
fn linux_5_10() {
    let files = files("5.10.262");
    let facts = facts("5.10.262");
    // Its BTF has no enum of the bits yet (since 6.9); the tracepoint format names them.
    assert_eq!(facts.gfp.source(), Source::Tracefs);
    assert_eq!((facts.gfp.bit("NOFAIL"), facts.gfp.format(0xcc0)), (Some(0x8000), "GFP_KERNEL".to_owned()));
    let injectable = Survey::take(&files).injectable.expect("there");
    assert_eq!(injectable.function_of(Hook::Filemap), "__add_to_page_cache_locked");
    let absent = |name: &'static str| {
        let report = checked(&files, &root());
        report.checks.into_iter().any(|check| check.name == name && check.state == Presence::Missing)
    };
    assert!(absent("hook page-pool") && !absent("hook filemap") && !absent("hook slab"));
    let fmod_ret = Needs { backend: Backend::FmodRet, ..Needs::all() };
    for lacks in [Feature::Atomics, Feature::AncestorCgroupId] {
        let needs = Needs { cgroup: true, ..fmod_ret.clone() };
        let report = checked_with(&files, &root(), &[lacks], &needs);
        assert_eq!(report.missing().count(), 1, "{lacks:?}: {report}");
    }
}

/// Every hook that the kernel lists has the prototype that its eBPF program relies on.
#[test]
fn prototypes_of_the_named_hooks() {
    for kernel in supported() {
        let survey = Survey::take(&files(&kernel));
        let types = survey.types.expect("there");
        let injectable = survey.injectable.expect("there");
        for hook in Hook::NAMED.into_iter().filter(|hook| !hook.is_module_only()) {
            let function = injectable.function_of(hook);
            assert_eq!(types.prototype(function), hook.prototype(function), "{kernel}: {hook}");
        }
    }
}

#[test]
fn functions_by_name() {
    for kernel in supported() {
        let files = files(&kernel);
        let injectable = Injectable::read(&files).expect("there");
        let points = |functions: &[&str]| {
            let functions = functions.iter().map(|function| function.parse().expect("a function")).collect();
            let rule = Rule::new(Hook::MEMORY.to_vec(), Filter::default(), Policy::default());
            let points = resolve(&Rule { functions, ..rule }, &injectable, &files)?;
            Ok(points.iter().map(|point| (point.function, point.error)).collect::<Vec<_>>())
        };
        assert_eq!(
            points(&["openat=EACCES", "getpid", "open_ctree=EIO"]).map_err(|error: HookError| error.to_string()),
            Ok(vec![
                ("should_failslab", -12),
                ("should_fail_alloc_page", 1),
                ("__x64_sys_openat", -13),
                ("__do_sys_getpid", -12),
                ("open_ctree", -5)
            ]),
            "{kernel}"
        );
        assert!(matches!(points(&["openat", "__x64_sys_openat"]), Err(HookError::Twice { .. })), "{kernel}");
        assert!(matches!(points(&["open_ctree=TRUE"]), Err(HookError::Misfit { .. })), "{kernel}");
        // Listed, but the fixture's kallsyms is cut down.
        assert!(matches!(points(&["mount"]), Err(HookError::NoSymbol { .. })), "{kernel}");
        let close = points(&["btrfs_serch_slot"]).map_err(|error| error.to_string()).unwrap_err();
        assert!(close.contains("`injector hooks` lists those that are; did you mean btrfs_search_slot, "), "{close}");
    }
}

/// Both guests were booted with slab_merge.
#[test]
fn slab_caches() {
    for kernel in supported() {
        let caches = Caches::read(&files(&kernel)).expect("readable");
        let choose = |patterns: &[&str]| {
            let patterns: Vec<CachePattern> = patterns.iter().map(|text| text.parse().expect("a pattern")).collect();
            caches.matching(&patterns)
        };
        let page = choose(&["nfs_page"]).expect("there");
        assert_eq!(page.names.len(), 1, "{kernel}: {page:?}");
        let [merged] = page.merged.as_slice() else { panic!("{kernel}: {page:?}") };
        assert_eq!(merged.first.as_ref(), page.names.first(), "{kernel}");
        assert!(merged.others.len() > 1, "{kernel}: {page:?}");
        // By any of its names it is the same cache.
        for other in &merged.others {
            assert_eq!(choose(&[other]).expect("there").names, page.names, "{kernel}: {other}");
        }
        assert!(matches!(choose(&["nfs_pge"]), Err(NoSuchCache { close, .. }) if close == ["nfs_page"]));
    }
}

/// The enum and the tracepoint of the same kernel name the same bits.
#[test]
fn both_sources_of_gfp_bits_agree() {
    let files = files("6.12.117");
    let from_btf = facts("6.12.117").gfp;
    let format = files.read_text("sys/kernel/tracing/events/kmem/kmalloc/format").expect("there");
    let from_format = injector::kernel::gfp::GfpBits::from_format(&format);
    assert!(from_format.flags().count() > 15);
    for (name, bit) in from_format.flags() {
        assert_eq!(from_btf.bit(name), Some(bit), "{name}");
    }
}

#[test]
fn each_missing_thing_has_its_own_line_and_remedy() {
    let kernel = "6.12.117";
    let files = files(kernel);

    let user = Caller { uid: 1000, ..root() };
    assert_eq!(only_missing(&checked(&files, &user)).remedy.as_deref(), Some("run it as root: sudo injector …"));
    let container = Caller { capabilities: Some(0xa80425fb), ..root() };
    assert_eq!(only_missing(&checked(&files, &container)).name, "root");
    let elsewhere = Caller { pid_namespace: Some("pid:[4026532000]".to_owned()), ..root() };
    let checklist = checked(&files, &elsewhere);
    let pid_namespace = only_missing(&checklist);
    assert_eq!(pid_namespace.name, "pid namespace");
    assert!(pid_namespace.remedy.as_deref().expect("one").contains("--pid=host"));

    // A copy of the kernel in which one thing is changed.
    let changed = |change: &dyn Fn(&Path)| -> Checklist {
        let copy = tempfile::tempdir().expect("a directory");
        fixture::cut_down(&data().join(kernel), copy.path());
        change(copy.path());
        checked(&KernelFiles::new(copy.path()), &root())
    };
    let edit = |root: &Path, file: &str, edit: &dyn Fn(String) -> String| {
        let path = root.join(file);
        let text = edit(std::fs::read_to_string(&path).expect("there"));
        std::fs::write(path, text).expect("writable");
    };
    const LIST: &str = "sys/kernel/debug/error_injection/list";

    let report = changed(&|root| {
        std::fs::remove_file(root.join(LIST)).expect("there");
        edit(root, "proc/mounts", &|text| text.lines().filter(|line| !line.contains("debugfs")).collect());
    });
    assert_eq!(only_missing(&report).remedy.as_deref(), Some("mount -t debugfs debugfs /sys/kernel/debug"));

    let report = changed(&|root| std::fs::remove_file(root.join("sys/kernel/btf/vmlinux")).expect("there"));
    assert!(report.missing().any(|check| check.name == "BTF"), "{report}");

    let report = changed(&|root| edit(root, LIST, &|text| text.replace("should_failslab\tERRNO\n", "")));
    // The module makes what the kernel itself does not let be overridden.
    let by_module = |report: &Checklist, reason: &str| {
        let check = only_missing(report);
        assert_eq!(check.name, "injector_hooks", "{report}");
        assert!(check.detail.ends_with(reason), "{report}");
        assert_eq!(check.remedy.as_deref(), Some("injector module install, or boot the guest: cargo xtask run"));
    };
    by_module(&report, "without it: should_failslab is not in the error injection list");

    let report = changed(&|root| edit(root, LIST, &|text| text.replace("alloc_page\tTRUE", "alloc_page\tERRNO")));
    by_module(&report, "without it: should_fail_alloc_page may only return ERRNO here, not TRUE");

    let report = changed(&|root| {
        edit(root, "proc/kallsyms", &|text| text.replace("should_fail_ex", "should_failslab.constprop.0"));
    });
    by_module(
        &report,
        "without it: the compiler made should_failslab.constprop.0; the kernel calls that instead of should_failslab",
    );

    let report = changed(&|root| {
        edit(root, "proc/kallsyms", &|text| text.lines().map(|line| format!("{:016x}{}\n", 0, &line[16..])).collect());
    });
    let hidden = only_missing(&report);
    assert_eq!(
        (&*hidden.name, &*hidden.detail),
        ("kallsyms", "/proc/kallsyms hides the addresses (kernel.kptr_restrict)")
    );

    let report = changed(&|root| {
        std::fs::create_dir_all(root.join("sys/kernel/security")).expect("writable");
        std::fs::write(root.join("sys/kernel/security/lockdown"), "none integrity [confidentiality]\n")
            .expect("writable");
    });
    assert_eq!(only_missing(&report).name, "lockdown");

    // What is installed but may not be loaded is of no use.
    let report = changed(&|root| {
        edit(root, LIST, &|text| text.replace("should_failslab\tERRNO\n", ""));
        let release = std::fs::read_to_string(root.join("proc/sys/kernel/osrelease")).expect("there");
        let installed = root.join("lib/modules").join(release.trim()).join("updates");
        let parameters = root.join("sys/module/module/parameters");
        for directory in [&installed, &parameters] {
            std::fs::create_dir_all(directory).expect("writable");
        }
        std::fs::write(installed.join("injector_hooks.ko"), "not signed").expect("writable");
        std::fs::write(parameters.join("sig_enforce"), "Y\n").expect("writable");
    });
    let check = only_missing(&report);
    assert_eq!(check.name, "injector_hooks", "{report}");
    assert!(check.detail.contains("injector_hooks.ko is installed, but module signatures are enforced"), "{report}");
    assert_eq!(check.remedy.as_deref(), Some("sign it: docs/guide.md, \"Signed modules\""));

    // Without the options little is known, and that is no reason to stop.
    let report = changed(&|root| std::fs::remove_file(root.join("proc/config.gz")).expect("there"));
    assert!(report.is_ok(), "{report}");
    let unknown = report.checks.iter().filter(|check| check.state == Presence::Unknown);
    assert_eq!(
        unknown.map(|check| check.name.as_str()).collect::<Vec<_>>(),
        ["CONFIG_KPROBES", "fmod_ret", "hook vmalloc: prototype", "hook percpu: prototype"],
        "{report}"
    );

    // What a kernel calls itself says nothing of what it has.
    let report = changed(&|root| {
        std::fs::write(root.join("proc/sys/kernel/osrelease"), "5.14.0-570.el9.x86_64\n").expect("writable");
    });
    assert!(report.is_ok(), "{report}");
}

/// What a run needs of eBPF and what it does not: the first is named with its remedy, the second does not stop it.
#[test]
fn features_of_ebpf_are_needed_by_what_uses_them() {
    let files = files("6.12.117");
    let missing = |absent: &[Feature], needs: &Needs| -> Vec<String> {
        let report = checked_with(&files, &root(), absent, needs);
        report.missing().map(|check| format!("{}; {}", check.name, check.remedy.as_deref().unwrap_or("none"))).collect()
    };
    let (run, command) = (Needs::all(), Needs { cgroup: true, ..Needs::all() });
    let outcome = Needs { syscalls: true, tracepoints: true, ..Needs::all() };
    let sweep = Needs { cgroup: true, tracepoints: true, sweep: true, ..Needs::all() };
    assert_eq!(
        missing(&[Feature::Atomics], &run),
        [
            "eBPF: BPF_FETCH and BPF_CMPXCHG; use Linux 5.12 or newer, or a kernel with its eBPF, or boot the guest: cargo xtask run"
        ]
    );
    for (feature, needs) in [
        (Feature::AncestorCgroupId, &command),
        (Feature::UserRegisters, &outcome),
        (Feature::RawTracepoints, &outcome),
        (Feature::ThreadSignals, &sweep),
    ] {
        assert_eq!(missing(&[feature], &run), [""; 0], "{feature:?}");
        assert_eq!(missing(&[feature], needs).len(), 1, "{feature:?}");
    }
    // Where there is another way, nothing is missing.
    assert_eq!(missing(&[Feature::BpfLoop], &sweep), [""; 0]);
    assert_eq!(missing(&[Feature::KprobeLinks], &run), [""; 0]);
    assert_eq!(missing(&[Feature::ModifyReturn], &run), [""; 0]);
    let kprobe = Needs { backend: Backend::Kprobe, ..Needs::all() };
    assert_eq!(missing(&[Feature::KprobeLinks], &kprobe).len(), 1);
    assert_eq!(missing(&[Feature::KprobeLinks, Feature::ModifyReturn], &run).len(), 1);
    let trampolines = Needs { backend: Backend::FmodRet, ..Needs::all() };
    assert_eq!(missing(&[Feature::ModifyReturn], &trampolines).len(), 1);
}

#[test]
fn cgroups_are_needed_for_commands_only() {
    let files = KernelFiles::new("/nonexistent");
    let survey = Survey::take(&files);
    for (cgroup, expected) in [(false, false), (true, true)] {
        let needs = Needs { hooks: vec![Hook::Slab], cgroup, ..Needs::none() };
        let report = check::run(&files, &survey, &root(), &needs);
        assert_eq!(report.missing().any(|check| check.name == "cgroup v2"), expected);
    }
}

#[test]
fn the_list_as_json() {
    let report = checked(&files("6.12.117"), &root());
    let json: serde_json::Value = serde_json::from_str(&report.to_json().expect("texts")).expect("JSON");
    assert_eq!((&json["schema"], &json["type"], &json["ok"]), (&1.into(), &"check".into(), &true.into()));
    assert_eq!(json["checks"].as_array().map(Vec::len), Some(report.checks.len()));
    assert_eq!(json["checks"][0]["state"], "found");
}

proptest! {
    #[test]
    fn gfp_flags_survive_printing_and_reading(flags in any::<u32>(), kernel in prop::sample::select(kernels())) {
        thread_local! {
            static KNOWN: std::cell::RefCell<std::collections::HashMap<String, injector::kernel::gfp::GfpBits>> =
                std::cell::RefCell::default();
        }
        KNOWN.with_borrow_mut(|known| {
            let bits = known.entry(kernel.clone()).or_insert_with(|| facts(&kernel).gfp);
            prop_assert_eq!(bits.parse(&bits.format(flags)), Ok(flags));
            Ok(())
        })?;
    }
}
