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

/// The workloads: INJECTOR_TEST_WORKLOADS, or where guests have them.
pub fn workloads() -> PathBuf {
    of("INJECTOR_TEST_WORKLOADS", "/workloads")
}

fn of(variable: &str, in_guests: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| in_guests.into(), PathBuf::from)
}
