//! What the injector costs: `cargo xtask bench` boots guests for it, or runs it on this machine, and prints the tables.
//!
//! `injector-bench PART [ONLY]`, rows of JSON on standard output:
//! - `calls`: the cost of a hooked call above the unhooked kernel, of the injector and its peers;
//! - `workload`, `workload-smp`: a file-system workload with and without the injector, for machines with one CPU and with more;
//! - `start`: what the daemon does until it is armed;
//! - `daemon`: memory, events until loss, symbols, report.
//!
//! Where the clock counts instructions (QEMU -icount) they are counted; with INJECTOR_BENCH_CLOCK=wall it is time. Where
//! things lie that a guest has at fixed places, the variables of [`injector_tests::place`] say.

mod calls;
mod clock;
mod daemon;
mod peers;
mod workload;

use clock::Clock;

/// How hooks are attached.
const BACKENDS: [&str; 2] = ["kprobe", "fmod-ret"];

fn main() {
    let clock = match std::env::var("INJECTOR_BENCH_CLOCK").as_deref() {
        Ok("wall") => Clock::Wall,
        _ => Clock::Instructions,
    };
    let rows = match std::env::args().nth(1).as_deref() {
        Some("calls") => calls::calls(clock),
        Some("workload" | "workload-smp") => workload::workload(clock),
        Some("start") => daemon::start(clock),
        Some("daemon") => daemon::daemon(),
        other => panic!("injector-bench calls|start|workload|workload-smp|daemon, not {other:?}"),
    };
    if clock == Clock::Wall {
        // The machine goes on after this.
        injector_tests::module::unload();
    }
    for row in rows {
        println!("{row}");
    }
}

/// Whether a row is asked for: the second argument, if there is one, must be in it.
fn wanted(what: &str) -> bool {
    std::env::args().nth(2).is_none_or(|part| what.contains(&part))
}
