//! Where things are that a guest has at fixed places; on other machines the environment says.

use std::path::PathBuf;

/// The injector: INJECTOR_TEST_PROGRAM, or where guests have it.
pub fn injector() -> PathBuf {
    of("INJECTOR_TEST_PROGRAM", crate::daemon::INJECTOR)
}

/// The test module: INJECTOR_TEST_MODULE, or where guests have it.
pub fn module() -> PathBuf {
    of("INJECTOR_TEST_MODULE", "/lib/modules/injector_test.ko")
}

/// What the running kernel calls itself: 7.3.4.
pub fn release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc is mounted");
    text.trim().to_owned()
}

/// The module by which the injector hooks: INJECTOR_TEST_HOOKS_MODULE, or where guests have it installed.
pub fn hooks_module() -> PathBuf {
    let installed = format!("/lib/modules/{}/updates/injector_hooks.ko", release());
    of("INJECTOR_TEST_HOOKS_MODULE", &installed)
}

/// The workloads: INJECTOR_TEST_WORKLOADS, or where guests have them.
pub fn workloads() -> PathBuf {
    of("INJECTOR_TEST_WORKLOADS", "/workloads")
}

fn of(variable: &str, in_guests: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| in_guests.into(), PathBuf::from)
}
