//! The kselftest package of `cargo xtask dist`, which `cargo xtask test` puts into the guests of the tests that want it.

use std::path::Path;
use std::time::Duration;

use crate::shell;

const PACKAGE: &str = "/kselftest.tar.gz";
const DIRECTORY: &str = "/tmp/kselftest";

/// Where it is unpacked.
pub fn unpacked() -> &'static str {
    if !Path::new(DIRECTORY).exists() {
        std::fs::create_dir(DIRECTORY).unwrap_or_else(|e| panic!("{DIRECTORY}: {e}"));
        let output = shell::output("tar", &["xzf", PACKAGE, "-C", DIRECTORY], Duration::from_secs(60));
        assert!(output.status.success(), "{PACKAGE}: {}", String::from_utf8_lossy(&output.stderr));
    }
    DIRECTORY
}
