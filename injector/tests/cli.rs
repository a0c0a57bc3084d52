//! The help and the errors, word for word: tests/cli/. Nothing here gets as far as touching the kernel.
//!
//! After a change that is meant: `TRYCMD=overwrite cargo test -p injector --test cli`, and read the difference.

#[test]
fn help_and_errors() {
    // Help is wrapped to the terminal, at most 100 columns.
    trycmd::TestCases::new().env("COLUMNS", "100").case("tests/cli/*.trycmd");
}
