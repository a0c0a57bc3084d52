//! The project's tasks. `cargo xtask --help` lists them; each verb is one file.

mod bench;
mod build_ebpf;
mod dist;
mod fixture;
mod guest_root;
mod kernel;
mod module;
mod packages;
mod process;
mod progress;
mod run;
mod setup;
mod static_build;
mod tee;
mod test;
mod verify;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's tasks. Each sets up what it needs and does not find.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// What clap's own complaints have, too.
const EXIT_BAD_INPUT: u8 = 2;

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what building, booting and testing need (Debian packages, bpf-linker)
    Setup(setup::Setup),
    /// Build a guest kernel of any series or version from Debian's source, once; it is kept in the cache directory
    Kernel(kernel::Verb),
    /// Compile the eBPF programs alone
    BuildEbpf(build_ebpf::BuildEbpf),
    /// Boot a guest and run a command in it
    Vm(vm::Vm),
    /// Run the injector: here if this kernel allows it, else in a guest with a workload
    Run(run::Run),
    /// Format, lint, and run all tests, on this machine and in guests
    Test(test::Test),
    /// Make what is given to others: static program, manual, completions, kselftest tarball, Debian package
    Dist(dist::Dist),
    /// Write down what a guest's kernel says of itself, for the tests that need no guest
    Fixture(fixture::Fixture),
    /// Measure what the injector costs, in guests or on this machine
    Bench(bench::Bench),
    /// Measure how much work the programs are for the kernel's verifier, in guests
    Verify(verify::Verify),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Setup(verb) => verb.run().map(|()| 0),
        Verb::Kernel(verb) => verb.run().map(|()| 0),
        Verb::BuildEbpf(verb) => verb.run().map(|()| 0),
        Verb::Vm(verb) => verb.run(),
        Verb::Run(verb) => verb.run(),
        Verb::Test(verb) => verb.run(),
        Verb::Dist(verb) => verb.run().map(|()| 0),
        Verb::Fixture(verb) => verb.run().map(|()| 0),
        Verb::Bench(verb) => verb.run().map(|()| 0),
        Verb::Verify(verb) => verb.run().map(|()| 0),
    };
    match result {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            let missing = error.is::<setup::NeedsInstall>()
                || error.is::<bench::HostLacks>()
                || error.is::<injector_kernels::Missing>();
            match () {
                () if missing => ExitCode::from(setup::EXIT_MISSING as u8),
                () if error.is::<injector_kernels::BadInput>() => ExitCode::from(EXIT_BAD_INPUT),
                () => ExitCode::FAILURE,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `cargo xtask` commands of the documents parse. CI runs the first two of the README; the guest test `readme` runs the
    /// commands of `injector`.
    #[test]
    fn the_documents_commands_parse() {
        let commands = |text: &'static str| text.lines().filter(|line| line.starts_with("cargo xtask "));
        let readme: Vec<_> = commands(include_str!("../../README.md")).collect();
        assert!(readme.contains(&"cargo xtask test"), "{readme:?}");
        let guide = commands(include_str!("../../docs/guide.md"));
        let cost = commands(include_str!("../../docs/cost.md"));
        let contributing = commands(include_str!("../../CONTRIBUTING.md"));
        for command in readme.into_iter().chain(guide).chain(cost).chain(contributing) {
            let command = command.replace("path/to/bzImage", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
            let words = command.split(' ').skip(1);
            if let Err(error) = Arguments::try_parse_from(words) {
                panic!("{command}: {error}");
            }
        }
    }
}
