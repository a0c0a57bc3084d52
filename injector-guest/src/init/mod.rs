//! The guest's side: sets the guest up, runs the command, and carries its output and status to the host.
//!
//! It is PID 1 of a guest with a root of its own. In a guest that has another init (virtme-ng's), it is an agent: that init
//! starts it, has mounted everything, and ends the guest after it.
//!
//! The kernel below it is being broken on purpose, so every system call here may fail for want of memory and is tried
//! again, nothing panics, and what cannot be had (a mount that this kernel lacks) is said on the console and left out.
//! The output goes through PID 1, and not from the command to the host's ports, because failures are never injected
//! into PID 1: an output port that fails in a task under test would lose what the test said.

mod drivers;
mod mounts;

pub use drivers::DRIVERS;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::drain;
use crate::port;
use crate::protocol::{
    self, AGENT_COMMAND, BUDGET_SIGNAL, CONTROL_PORT, Command, DATA_PORT, Message, Request, STDERR_PORT, STDOUT_PORT,
    VIRTUAL_TIME,
};

/// Threads of PID 1 need little; the default of 2 MiB each would be asked from a kernel that is short of memory.
const STACK_SIZE: usize = 256 << 10;

/// A command that could not be started, as shells report it.
const NOT_STARTED: i32 = 127;

/// Whether this process was started as a guest's `/init` or agent. Being PID 1 is not enough: in a container the main program
/// is.
pub fn is_wanted() -> bool {
    is_agent() || (process::id() == 1 && Path::new(protocol::COMMAND_FILE).exists())
}

fn is_agent() -> bool {
    std::env::var_os(AGENT_COMMAND).is_some()
}

/// Does the work of a guest's `/init` or agent. PID 1 ends with the guest; an agent exits with the command's status.
pub fn main() -> ! {
    // A panic here would end PID 1, and the kernel with it; the message is all that is wanted of it.
    let status = match std::panic::catch_unwind(run) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            eprintln!("injector-init: {error}");
            NOT_STARTED
        }
        Err(_) => {
            eprintln!("injector-init: internal error");
            NOT_STARTED
        }
    };
    if is_agent() {
        process::exit(status);
    }
    power_off()
}

#[cfg(test)]
pub(crate) fn mount_targets() -> impl Iterator<Item = &'static str> {
    mounts::targets()
}

/// The command's status.
fn run() -> io::Result<i32> {
    if !is_agent() {
        mounts::mount_all();
        drivers::load();
    }
    prepare_machine();
    let command = read_command()?;
    if command.share {
        mounts::mount_share();
    }

    // For the command, which opens it itself.
    port::wait_to_be_there(DATA_PORT);
    let [to_stdout, to_stderr, control] = [STDOUT_PORT, STDERR_PORT, CONTROL_PORT].map(port::wait_for);
    let (to_stdout, to_stderr, control) = (to_stdout?, to_stderr?, Arc::new(control?));
    let child = Arc::new(AtomicI32::new(0));
    let ended = Arc::new(AtomicBool::new(false));

    // Every thread is there before the command runs: later, making one may fail.
    let (out_read, out_write) = retry(|| nix::unistd::pipe().map_err(io::Error::from))?;
    let (err_read, err_write) = retry(|| nix::unistd::pipe().map_err(io::Error::from))?;
    let stdout = start_copy("stdout", out_read, to_stdout, &ended)?;
    let stderr = start_copy("stderr", err_read, to_stderr, &ended)?;
    let is_virtual = command.env.contains_key(VIRTUAL_TIME);
    start_requests(Arc::clone(&control), Arc::clone(&child), is_virtual)?;

    send(&control, &Message::Ready { uptime_ms: uptime_ms() });
    start_heartbeat(Arc::clone(&control))?;

    let status = match start(&command, out_write, err_write) {
        Ok(pid) => {
            child.store(pid, Ordering::SeqCst);
            reap_until(Pid::from_raw(pid))
        }
        Err(()) => NOT_STARTED,
    };
    child.store(0, Ordering::SeqCst);
    ended.store(true, Ordering::SeqCst);
    // What the command wrote is on its way before its status is.
    let _ = stdout.join();
    let _ = stderr.join();
    send(&control, &Message::Exit { status });
    Ok(status)
}

fn prepare_machine() {
    // All messages of the kernel go to the console from here on; booting is quiet.
    write_setting("/proc/sys/kernel/printk", "7");
    if !is_agent() {
        write_setting("/proc/sys/kernel/hostname", "injector-guest");
    }
    if let Err(error) = mounts::loopback_up() {
        eprintln!("injector-init: network interface lo: {error}");
    }
    mounts::delegate_cgroup_controllers();
    for (resource, limit) in [(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY), (Resource::RLIMIT_NOFILE, 1 << 16)] {
        if let Err(error) = setrlimit(resource, limit, limit) {
            eprintln!("injector-init: {resource:?}: {error}");
        }
    }
}

fn read_command() -> io::Result<Command> {
    let path = std::env::var_os(AGENT_COMMAND).unwrap_or_else(|| protocol::COMMAND_FILE.into());
    let text = retry(|| fs::read(&path))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Starts the command; when it can't be, says so on its standard error.
fn start(command: &Command, stdout: OwnedFd, stderr: OwnedFd) -> Result<i32, ()> {
    let name = command.argv.first().map_or("", String::as_str);
    let mut complaint = stderr.try_clone().ok().map(fs::File::from);
    let mut process = process::Command::new(name);
    process
        .args(command.argv.iter().skip(1))
        .env_clear()
        .envs([("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root")])
        .envs([("TERM", "dumb"), ("USER", "root"), ("SHELL", "/bin/sh")])
        .envs(&command.env)
        .current_dir(command.directory.as_deref().unwrap_or("/root"))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    if command.env.contains_key(VIRTUAL_TIME) {
        // SAFETY: signal(2) is async-signal-safe, and nothing is allocated between fork and exec.
        unsafe {
            // It may come before the command handles it.
            process.pre_exec(|| ignore(BUDGET_SIGNAL).map_err(io::Error::from));
        }
    }
    match retry(|| process.spawn()) {
        // Not waited for by this handle: the loop that reaps orphans sees it too.
        Ok(child) => Ok(child.id() as i32),
        Err(error) => {
            if let Some(complaint) = &mut complaint {
                let _ = writeln!(complaint, "injector-init: {name}: {error}");
            }
            Err(())
        }
    }
}

fn ignore(number: i32) -> nix::Result<()> {
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::try_from(number)?, SigHandler::SigIgn) }.map(drop)
}

/// Waits for all that ends, until `child` does; its status as a shell counts.
fn reap_until(child: Pid) -> i32 {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => return status,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            // Cannot be while the child is not reaped; better to say something than to spin.
            Err(Errno::ECHILD) => return NOT_STARTED,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn start_copy(
    name: &'static str,
    from: OwnedFd,
    to: fs::File,
    ended: &Arc<AtomicBool>,
) -> io::Result<thread::JoinHandle<()>> {
    let ended = Arc::clone(ended);
    spawn(name, move || drain::until_drained(from, to, &ended))
}

fn start_heartbeat(control: Arc<fs::File>) -> io::Result<()> {
    spawn("heartbeat", move || {
        for beat in 1.. {
            thread::sleep(Duration::from_secs(1));
            send(&control, &Message::Heartbeat { beat });
        }
    })?;
    Ok(())
}

/// Does what the host asks for, line by line.
fn start_requests(control: Arc<fs::File>, child: Arc<AtomicI32>, is_virtual: bool) -> io::Result<()> {
    spawn("requests", move || {
        let mut lines = BufReader::new(&*control);
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.read_until(b'\n', &mut line) {
                // The host is not connected, or no memory.
                Ok(0) | Err(_) => thread::sleep(Duration::from_millis(100)),
                Ok(_) => {
                    let pid = Pid::from_raw(child.load(Ordering::SeqCst));
                    if pid.as_raw() <= 0 {
                        continue;
                    }
                    match protocol::decode(&line) {
                        // As a terminal does it: the whole group gets it.
                        Some(Request::Signal { number }) => {
                            let _ = Signal::try_from(number).map(|signal| killpg(pid, signal));
                        }
                        // In real time the command knows by itself, and does not expect the signal.
                        Some(Request::BudgetSpent) if is_virtual => {
                            let _ = Signal::try_from(BUDGET_SIGNAL).map(|signal| kill(pid, signal));
                        }
                        Some(Request::BudgetSpent) | None => {}
                    }
                }
            }
        }
    })?;
    Ok(())
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_SIZE).spawn(body)
}

fn send(mut control: &fs::File, message: &Message) {
    port::write_all(&mut control, &protocol::encode(message));
}

fn write_setting(path: &str, value: &str) {
    if let Err(error) = fs::write(path, value) {
        eprintln!("injector-init: {path}: {error}");
    }
}

fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    (seconds * 1000.0) as u64
}

/// Tries again what failed for want of memory.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..200 {
        match call() {
            Err(error) if port::is_shortage(&error) => thread::sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
    call()
}

/// Ends the machine. A file system that failures broke may never finish a sync: it gets a short time.
fn power_off() -> ! {
    let synced = spawn("sync", nix::unistd::sync);
    if let Ok(handle) = synced {
        for _ in 0..100 {
            if handle.is_finished() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    loop {
        let _ = reboot(RebootMode::RB_POWER_OFF);
        // No ACPI: QEMU ends at a reboot as well (-no-reboot).
        let _ = reboot(RebootMode::RB_AUTOBOOT);
        thread::sleep(Duration::from_millis(100));
    }
}
