//! `cargo xtask verify`: how much work the programs are for the verifier of each guest kernel, compared with what is written
//! down.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use injector_guest::engines::Qemu;
use injector_guest::{Command, Engine, GuestEnd, Streams};
use serde_json::Value;

use crate::guest_root::{self, Contents};
use crate::kernel::KernelChoice;
use crate::tee::Tee;
use crate::test;
use crate::vm::{self, Guest};
use crate::{process, static_build};

/// In the guest.
const PROGRAM: &str = "/usr/bin/injector-verify";

#[derive(Debug, Args)]
#[command(
    after_help = "The guest test `verifier` fails when a number in tests/verifier.json has grown by more than 10 %."
)]
pub struct Verify {
    /// Guest kernel, repeatable; default: 7.3, and 6.12 and 6.1 where they are built
    #[arg(long)]
    kernel: Vec<KernelChoice>,
    /// Write tests/verifier.json anew
    #[arg(long)]
    update: bool,
    /// JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub fn run(&self) -> Result<()> {
        let kernels = if self.kernel.is_empty() { test::kernels::measured() } else { self.kernel.clone() };
        let path = baseline();
        let known: Vec<Value> = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?,
            Err(_) => Vec::new(),
        };
        let program = static_build::binary("injector-tests", "injector-verify")?;
        let mut rows = Vec::new();
        for kernel in &kernels {
            let found = kernel.find()?;
            let contents = Contents {
                injector: Some(vm::injector()?),
                added: vec![(program.clone(), PROGRAM.to_owned())],
                ..found.contents()?
            };
            let guest = Guest::new(&found, &guest_root::build(&contents)?)?;
            for mut row in measure(&guest, &kernel.to_string())? {
                row["kernel"] = kernel.to_string().into();
                rows.push(row);
            }
        }
        if self.json {
            rows.iter().for_each(|row| println!("{row}"));
        } else {
            print(&rows, &known);
        }
        if self.update {
            let names: Vec<String> = kernels.iter().map(ToString::to_string).collect();
            let others = known.into_iter().filter(|row| !names.iter().any(|name| row["kernel"] == **name));
            let all: Vec<Value> = others.chain(rows).collect();
            let lines: Vec<String> = all.iter().map(Value::to_string).collect();
            fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n")))
                .with_context(|| format!("can't write {}", path.display()))?;
        }
        Ok(())
    }
}

fn baseline() -> PathBuf {
    process::workspace().join("tests/verifier.json")
}

fn print(rows: &[Value], known: &[Value]) {
    println!(
        "{:<6}{:<16}{:<20}{:>14}{:>9}{:>12}  before",
        "kernel", "plan", "program", "instructions", "states", "translated"
    );
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| row[name].as_u64().unwrap_or_default();
        let same = |before: &&Value| ["kernel", "plan", "program"].iter().all(|name| before[*name] == row[*name]);
        let before = known.iter().find(same).map_or_else(
            || "-".to_owned(),
            |before| {
                let number = |name: &str| before[name].as_u64().unwrap_or_default();
                format!("{}, {}, {}", number("instructions"), number("states"), number("translated"))
            },
        );
        println!(
            "{:<6}{:<16}{:<20}{:>14}{:>9}{:>12}  {before}",
            text("kernel"),
            text("plan"),
            text("program"),
            number("instructions"),
            number("states"),
            number("translated")
        );
    }
}

fn measure(guest: &Guest, kernel: &str) -> Result<Vec<Value>> {
    let machine = guest.machine(&format!("{kernel}-verify"))?;
    let output = Tee::quiet();
    let streams = Streams { stdout: Box::new(output.clone()), ..Streams::inherit() };
    let outcome = Qemu.run(&machine, &Command::new([PROGRAM]), streams)?;
    if outcome.end != GuestEnd::Exited(0) {
        vm::report(&machine, &outcome);
        bail!("injector-verify did not end well on {kernel}");
    }
    let text = output.text();
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("injector-verify said {line}")))
        .collect()
}
