//! What `injector hooks` prints, of a real kernel's list (tests/data), as golden files: tests/golden/hooks.*.
//!
//! `UPDATE_GOLDEN=1 cargo test -p injector --test hook_list` writes them anew; look at the difference before you commit it.

use std::path::Path;

use injector::check::{self, Caller};
use injector::hook_list::HookList;
use injector::kernel::KernelFiles;
use injector::kernel::hooks::Injectable;

fn files(kernel: &str) -> KernelFiles {
    KernelFiles::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(kernel))
}

fn root() -> Caller {
    Caller { uid: 0, capabilities: Some(u64::MAX), pid_namespace: None, cgroup_namespace: None }
}

fn injectable(kernel: &str) -> Injectable {
    check::injectable(&files(kernel), &root()).expect("there")
}

fn golden(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).expect("it can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, expected, "{} differs", path.display());
}

#[test]
fn all() {
    let injectable = injectable("6.12.117");
    let list = HookList::new("6.12.117", &injectable, None, None).expect("there are some");
    golden("hooks.txt", &list.to_string());
    golden("hooks.json", &format!("{}\n", list.to_json().expect("texts")));
}

#[test]
fn a_part() {
    let injectable = injectable("6.12.117");
    let names = |pattern: &str| -> Vec<String> {
        let pattern = pattern.parse().expect("a pattern");
        let list = HookList::new("6.12.117", &injectable, None, Some(&pattern)).map_err(|error| error.to_string());
        match list {
            Ok(list) => {
                let json: serde_json::Value = serde_json::from_str(&list.to_json().expect("texts")).expect("JSON");
                let functions = json["functions"].as_array().expect("a list").clone();
                functions.iter().map(|function| function["function"].as_str().expect("a text").to_owned()).collect()
            }
            Err(error) => vec![error],
        }
    };
    assert_eq!(names("btrfs_check"), ["btrfs_check_leaf", "btrfs_check_node"]);
    assert_eq!(names("*alloc_page"), ["should_fail_alloc_page"]);
    assert_eq!(names("page-pool"), ["page_pool_alloc_pages"]);
    assert_eq!(names("openat"), ["__x64_sys_openat", "__x64_sys_openat2"]);
    assert_eq!(names("umount2"), ["__x64_sys_umount"]);
    assert_eq!(names("opnat*"), ["no injectable function matches `opnat*`; did you mean openat, openat2, open?"]);
}

/// 6.1 has page pools, and doesn't list their function.
#[test]
fn hooks_that_a_kernel_has_not_are_named() {
    let injectable = injectable("6.1.192");
    let text = HookList::new("6.1.192", &injectable, None, None).expect("there are some").to_string();
    assert!(
        text.ends_with(
            "--hook page-pool can't be used: neither page_pool_alloc_pages nor page_pool_alloc_netmems is in the kernel's list.\n\
             --hook vmalloc can't be used: it needs the module injector_hooks.\n\
             --hook percpu can't be used: it needs the module injector_hooks.\n"
        ),
        "{text}"
    );
}

#[test]
fn without_a_list_the_reason_is_said() {
    let nothing = KernelFiles::new("/nonexistent");
    let error = check::injectable(&nothing, &root()).expect_err("not there");
    assert!(error.to_string().ends_with("debugfs: not mounted; mount -t debugfs debugfs /sys/kernel/debug"), "{error}");
    let error = check::injectable(&nothing, &Caller { uid: 1000, ..root() }).expect_err("not there");
    assert!(error.to_string().ends_with("root: user id 1000; run it as root: sudo injector …"), "{error}");
}
