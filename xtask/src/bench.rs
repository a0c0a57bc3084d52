//! `cargo xtask bench`: what the injector costs, in a guest whose clock counts instructions and in one with two CPUs, or on
//! this machine.

mod bcc;
mod host;
mod table;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use injector_guest::engines::Qemu;
use injector_guest::root::Image;
use injector_guest::{Clock, Command, Engine, GuestEnd, Streams};
use serde_json::Value;

use crate::guest_root::{self, Contents};
use crate::kernel::{Kernel, KernelChoice};
use crate::static_build;
use crate::tee::Tee;
use crate::test::guests;
use crate::vm::{self, Guest};
pub use host::HostLacks;

/// In the guest.
const PROGRAM: &str = "/usr/bin/injector-bench";
/// The test that has the peers in its guest.
const PEERS: &str = "inventory";
/// Enough for bpftrace, and a million lines in memory.
const MEMORY_MB: u32 = 3072;

#[derive(Debug, Args)]
#[command(
    after_help = "Instructions per hooked call repeat to about 0.1 %; times depend on the machine that emulates.\n\n\
--host needs root, BTF, kprobes, the kernel's headers, and all that `injector check` asks for; what is missing is said \
before anything is built or attached, with exit status 3. What is failed are calls of \
the test module, which is loaded for it and unloaded again, and by the kernel's own injector, bpftrace and bcc (where they are \
there) allocations of the measuring process: use a machine that you can afford to lose. It was tried in this project's guests \
(the same program, by their own time and with other paths; the module built for their kernel) and, as far as saying what is \
missing, on a machine without all that; not on real hardware."
)]
pub struct Bench {
    /// Guest kernel, as for vm
    #[arg(long, default_value_t)]
    kernel: KernelChoice,
    /// On this machine and its own kernel: nanoseconds of its time instead of instructions
    #[arg(long, conflicts_with = "kernel")]
    host: bool,
    /// Only this part; repeatable
    #[arg(long = "part", value_name = "PART", value_parser = PARTS.map(|part| part.name))]
    parts: Vec<String>,
    /// Only calls, and of them only rows with this in them, beside the empty programs
    #[arg(long, value_name = "TEXT", conflicts_with = "parts")]
    only: Option<String>,
    /// JSON lines instead of tables
    #[arg(long)]
    json: bool,
}

/// What injector-bench measures at a time.
struct Part {
    name: &'static str,
    /// The machine for it has so many CPUs, and its clock counts instructions.
    counted: Option<u32>,
    heading: &'static str,
}

/// How a hooked call's cost is told.
const CALLS: &str = "calls";

const PARTS: [Part; 5] = [
    Part { name: CALLS, counted: Some(1), heading: "cost of a hooked call above the unhooked kernel" },
    Part { name: "start", counted: Some(1), heading: "from the daemon's start until it is armed" },
    Part { name: "workload", counted: Some(1), heading: "a file-system workload" },
    Part { name: "workload-smp", counted: Some(2), heading: "a file-system workload; repeats to some percent only" },
    Part { name: "daemon", counted: None, heading: "the daemon" },
];

impl Part {
    /// Its heading in full.
    fn title(&self, host: bool) -> String {
        let machine = match (host, self.counted) {
            (true, _) => "this machine's own time".to_owned(),
            (false, Some(1)) => "one CPU, -icount".to_owned(),
            (false, Some(cpus)) => format!("{cpus} CPUs, -icount"),
            (false, None) => "two emulated CPUs, their own time".to_owned(),
        };
        format!("{} ({machine})", self.heading)
    }
}

impl Bench {
    pub fn run(&self) -> Result<()> {
        if self.host {
            let host = host::Host::find()?;
            return self.all(&host.name(), |part| host.measure(part.name, self.only.as_deref()));
        }
        let found = self.kernel.find()?;
        let kernel = found
            .built
            .as_ref()
            .context("bench needs a guest kernel of the project's, for the test module: 7.3, 6.12, 6.1…")?;
        let contents = Contents {
            injector: Some(vm::injector()?),
            added: vec![(static_build::binary("injector-tests", "injector-bench")?, PROGRAM.to_owned())],
            ..found.contents()?
        };
        let guest = Guest::new(&found, &guest_root::build(&contents)?)?;
        self.all(&self.kernel.to_string(), |part| {
            let peers = if part.name == CALLS { peers(kernel)? } else { Vec::new() };
            self.measure(&guest, part, &peers)
        })
    }

    /// Measures all parts that are asked for, and prints each when it is there.
    fn all(&self, kernel: &str, measure: impl Fn(&Part) -> Result<Vec<Value>>) -> Result<()> {
        if !self.json {
            println!("kernel {kernel}");
        }
        let wanted = |part: &&Part| match &self.only {
            Some(_) => part.name == CALLS,
            // A real machine has as many CPUs as it has.
            None if self.host && part.name == "workload-smp" => false,
            None => self.parts.is_empty() || self.parts.iter().any(|name| name == part.name),
        };
        for part in PARTS.iter().filter(wanted) {
            let rows = measure(part)?;
            if self.json {
                for mut row in rows {
                    row["part"] = part.name.into();
                    row["kernel"] = kernel.into();
                    println!("{row}");
                }
                continue;
            }
            println!("\n{}\n", part.title(self.host));
            if part.name == CALLS { table::calls(&rows) } else { table::others(&rows) }
        }
        Ok(())
    }

    fn measure(&self, guest: &Guest, part: &Part, programs: &[Arc<Image>]) -> Result<Vec<Value>> {
        let mut machine = guest.machine(&format!("{}-bench-{}", self.kernel, part.name))?;
        machine.images.extend(programs.iter().map(|image| image.path().to_owned()));
        if part.counted.is_some() {
            machine.clock = Clock::Instructions;
        }
        machine.cpus = Some(part.counted.unwrap_or(2));
        machine.memory_mb = MEMORY_MB;
        let output = Tee::quiet();
        let streams = Streams { stdout: Box::new(output.clone()), ..Streams::inherit() };
        let words = [PROGRAM, part.name].into_iter().chain(self.only.as_deref());
        let outcome = Qemu.run(&machine, &Command::new(words), streams)?;
        if outcome.end != GuestEnd::Exited(0) {
            vm::report(&machine, &outcome);
            bail!("injector-bench {} did not end well", part.name);
        }
        rows(&output.text())
    }
}

/// What else one could use, on top of a guest's root.
fn peers(kernel: &Kernel) -> Result<Vec<Arc<Image>>> {
    let mut peers: Vec<_> = guests::programs([PEERS].into_iter())?.into_iter().map(|(_, image)| image).collect();
    peers.extend(bcc::overlay(kernel)?.map(Arc::new));
    Ok(peers)
}

/// What injector-bench has printed.
fn rows(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("injector-bench said {line}"))).collect()
}
