//! `cargo xtask bench`: what the injector costs, in a guest whose clock counts instructions and in one with two CPUs.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use injector_guest::root::Image;
use injector_guest::{Command, Streams, Verdict};
use serde_json::Value;

use crate::guest_root::{self, Contents};
use crate::static_build;
use crate::tee::Tee;
use crate::test::guests;
use crate::vm::{self, Guest, KernelChoice};
use crate::{module, process};

/// In the guest.
const PROGRAM: &str = "/usr/bin/injector-bench";
/// The test that has the peers in its guest.
const PEERS: &str = "inventory";
/// Enough for bpftrace and the workload's disk, which is in memory.
const MEMORY_MB: u32 = 3072;

#[derive(Debug, Args)]
#[command(
    after_help = "Instructions per hooked call repeat to about 0.1 %; times depend on the machine that emulates."
)]
pub struct Bench {
    /// Guest kernel, as for vm
    #[arg(long, default_value_t)]
    kernel: KernelChoice,
    /// Only calls, and of them only rows with this in them, beside the empty programs
    #[arg(long, value_name = "PART")]
    only: Option<String>,
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
            added: vec![
                (bench, PROGRAM.to_owned()),
                (process::workspace().join("tests/workloads"), "/workloads".to_owned()),
            ],
        };
        let guest = Guest::new(image, &guest_root::build(&contents)?)?;
        let peers = guests::programs([PEERS].into_iter())?;
        let calls = self.measure(&guest, "calls", Some(1), &peers)?;
        let rest = self.only.is_none();
        let workload = if rest { self.measure(&guest, "workload", Some(2), &[])? } else { Vec::new() };
        let daemon = if rest { self.measure(&guest, "daemon", None, &[])? } else { Vec::new() };
        if self.json {
            for row in calls.iter().chain(&workload).chain(&daemon) {
                println!("{row}");
            }
            return Ok(());
        }
        println!("kernel {}: instructions per hooked call above the unhooked kernel (one CPU, -icount)\n", self.kernel);
        println!("{:<6}{:<10}{:>14}{:>12}  what", "hook", "by", "instructions", "x empty");
        for row in &calls {
            let ratio = row["of_empty"].as_f64().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let instructions = row["instructions"].as_i64().unwrap_or_default();
            println!(
                "{:<6}{:<10}{instructions:>14}{ratio:>12}  {}",
                text(row, "hook"),
                text(row, "by"),
                text(row, "what")
            );
        }
        if !rest {
            return Ok(());
        }
        println!("\na file-system workload (two CPUs, -icount: a millisecond is a million instructions)\n");
        workload.iter().for_each(print);
        println!("\nthe daemon (two emulated CPUs)\n");
        daemon.iter().for_each(print);
        Ok(())
    }

    /// `counted`: on a machine with so many CPUs whose clock counts instructions.
    fn measure(
        &self,
        guest: &Guest,
        what: &str,
        counted: Option<u32>,
        programs: &[(&str, Arc<Image>)],
    ) -> Result<Vec<Value>> {
        let mut machine = guest.machine(&format!("{}-bench-{what}", self.kernel))?;
        machine.images.extend(programs.iter().map(|(_, image)| image.path().to_owned()));
        machine.icount = counted.is_some();
        machine.cpus = counted.unwrap_or(2);
        machine.memory_mb = MEMORY_MB;
        let output = Tee::quiet();
        let streams = Streams { stdout: Box::new(output.clone()), ..Streams::inherit() };
        let words = [PROGRAM, what].into_iter().chain(self.only.as_deref());
        let outcome = machine.boot(&Command::new(words), streams)?;
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

/// A row of which only its names say what is in it.
fn print(row: &Value) {
    let values = row.as_object().into_iter().flatten().filter(|(name, _)| *name != "what");
    let values: Vec<String> = values.map(|(name, value)| format!("{name} {value}")).collect();
    println!("{:<64}{}", text(row, "what"), values.join(", "));
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}
