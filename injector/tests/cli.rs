//! The help, the errors and printed plans, word for word: tests/cli/, and what docs/plan-files.md shows. Nothing here gets as far as touching the kernel.
//!
//! After a change that is meant: `TRYCMD=overwrite cargo test -p injector --test cli`, and read the difference.

#[test]
fn help_and_errors() {
    // Help is wrapped to the terminal, at most 100 columns.
    trycmd::TestCases::new().env("COLUMNS", "100").case("tests/cli/*.trycmd").case("../docs/plan-files.md");
}

#[test]
fn the_plan_file_of_the_documentation_is_one() {
    assert!(include_str!("../../docs/plan-files.md").contains(include_str!("cli/plans/nfs.toml")));
}
