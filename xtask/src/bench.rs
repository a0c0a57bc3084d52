//! `cargo xtask bench`: what the injector costs, in a guest whose clock counts instructions and in one with two CPUs.

use anyhow::{Context, Result, bail};
use clap::Args;
use injector_guest::{Command, Streams, Verdict};
use serde_json::Value;

use crate::guest_root::{self, Contents};
use crate::module;
use crate::static_build;
use crate::tee::Tee;
use crate::vm::{self, Guest, KernelChoice};

/// In the guest.
const PROGRAM: &str = "/usr/bin/injector-bench";

#[derive(Debug, Args)]
#[command(
    after_help = "Instructions per hooked call repeat to about 0.1 %; times depend on the machine that emulates."
)]
pub struct Bench {
    /// Guest kernel, as for vm
    #[arg(long, default_value_t)]
    kernel: KernelChoice,
    /// JSON lines instead of tables
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub fn run(&self) -> Result<()> {
        let (image, kernel) = self.kernel.find()?;
        let kernel = kernel.context("bench needs a guest kernel of the project's, for the test module: 6.12 or 6.1")?;
        let bench = static_build::binary("injector-tests", "injector-bench")?;
        let contents = Contents {
            injector: Some(vm::injector()?),
            modules: module::build(&kernel)?,
            added: vec![(bench, PROGRAM.to_owned())],
        };
        let guest = Guest::new(image, &guest_root::build(&contents)?)?;
        let calls = self.measure(&guest, "calls", true)?;
        let daemon = self.measure(&guest, "daemon", false)?;
        if self.json {
            for row in calls.iter().chain(&daemon) {
                println!("{row}");
            }
            return Ok(());
        }
        println!("kernel {}: instructions per hooked call above the unhooked kernel (one CPU, -icount)\n", self.kernel);
        println!("{:<6}{:>14}{:>12}  what", "hook", "instructions", "x empty");
        for row in &calls {
            let ratio = row["of_empty"].as_f64().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let instructions = row["instructions"].as_i64().unwrap_or_default();
            println!("{:<6}{instructions:>14}{ratio:>12}  {}", text(row, "hook"), text(row, "what"));
        }
        println!("\nthe daemon (two emulated CPUs)\n");
        for row in &daemon {
            let values: Vec<String> = row
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, _)| *name != "what")
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            println!("{:<64}{}", text(row, "what"), values.join(", "));
        }
        Ok(())
    }

    fn measure(&self, guest: &Guest, what: &str, icount: bool) -> Result<Vec<Value>> {
        let mut machine = guest.machine(&format!("{}-bench-{what}", self.kernel))?;
        machine.icount = icount;
        machine.cpus = if icount { 1 } else { 2 };
        let output = Tee::quiet();
        let streams = Streams { stdout: Box::new(output.clone()), ..Streams::inherit() };
        let outcome = machine.boot(&Command::new([PROGRAM, what]), streams)?;
        if outcome.verdict != Verdict::Exited(0) {
            vm::report(&machine, &outcome);
            bail!("injector-bench {what} did not end well");
        }
        output
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("injector-bench said {line}")))
            .collect()
    }
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}
