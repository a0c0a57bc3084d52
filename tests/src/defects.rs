//! The planted defects of the test module `injector_defects`, and what a sweep should say of each: the paths themselves
//! are in tests/module/injector_defects_*.c, their interface is documented in injector_defects_main.c.
//!
//! What the kernels say was seen in guests with 6.1.192, 6.12.117 and 6.12.117-debug (KASAN, kmemleak, sleep-in-atomic),
//! one failure at a time.

mod table;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Once;

use crate::module;

/// Where the guest has the module.
const MODULE: &str = "/lib/modules/injector_defects.ko";
/// Where its files are.
pub const DIRECTORY: &str = "/sys/kernel/debug/injector_defects";

pub use table::{BAITS, DEFECTS, Defect, Expected, Needs};

/// Loads the module unless it is loaded; mounts debugfs unless it is mounted.
pub fn load() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| module::load_file(MODULE, "injector_defects", DIRECTORY));
}

/// Runs the path once.
pub fn write(name: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(format!("{DIRECTORY}/{name}"))?.write_all(b"1")
}
