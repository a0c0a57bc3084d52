//! bpftrace as a witness that is independent of the injector: the stacks of the calls that the hooks see.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell;

/// The compiler that is in it takes some 10 s, emulated.
const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// Frames of a stack, the hook's own among them: what the kernel gives at most, and so what the injector sees.
pub const MAX_FRAMES: usize = 127;

// A workload tells bpftrace where it is by umask(2), with values that nobody asks for otherwise: the call allocates nothing.
/// The workload begins.
pub const OPEN: &str = "0123";
/// It ends.
pub const CLOSE: &str = "0124";
/// Asks bpftrace for a sign of life.
const HELLO: libc::mode_t = 0o125;

/// When a call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// While the workload ran under the injector's tracer.
    Recorded,
    /// After it ran by itself and before it ran under the tracer.
    Idle,
    /// Before the workload began, or after it ended; only where all calls are watched.
    Outside,
}

/// Which calls are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Of a workload that the injector traces, and of the time before.
    Traced,
    /// All, and whether they are the workload's.
    All,
}

/// Calls of a hook with one stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `slab` or `page`.
    pub hook: String,
    /// When.
    pub window: Window,
    /// Id of the task's cgroup.
    pub cgroup: u64,
    /// The task is one of the kernel's own.
    pub kthread: bool,
    /// Addresses, innermost first: the hook, then its callers. Empty: bpftrace has lost them.
    pub stack: Vec<u64>,
    /// The same as bpftrace names it: `symbol+202`.
    pub names: Vec<String>,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Testimony {
    /// The cgroup of the workload.
    pub cgroup: u64,
    /// By hook, window, task and stack.
    pub seen: Vec<Seen>,
}

/// A bpftrace that watches.
#[derive(Debug)]
pub struct Bpftrace {
    child: Child,
    output: PathBuf,
}

/// What it runs. Calls that the injector's guards leave alone are left out: with this bit of their flags, and those for the cache
/// that slab caches are made from.
fn program(nofail: u32, watched: Watched) -> String {
    // PF_KTHREAD (include/linux/sched.h) is the same in all kernels.
    let key = format!("@window, cgroup, (curtask->flags & 0x200000) != 0, kstack(perf, {MAX_FRAMES})");
    let (who, when) = match watched {
        Watched::Traced => ("&& curtask->ptrace != 0", "(@window == 1 || @window == 2) &&"),
        Watched::All => ("", ""),
    };
    format!(
        r#"tracepoint:syscalls:sys_enter_umask /args->mask == {OPEN} {who}/ {{ @window = 1; printf("cgroup %d\n", cgroup); }}
tracepoint:syscalls:sys_enter_umask /args->mask == {CLOSE}/ {{ @window = curtask->ptrace != 0 ? 3 : 2; }}
tracepoint:syscalls:sys_enter_umask /args->mask == {HELLO}/ {{ printf("hello\n"); }}
kprobe:should_failslab /{when} (arg1 & {nofail}) == 0 && str(((struct kmem_cache *)arg0)->name) != "kmem_cache"/ {{ @slab[{key}] = count(); }}
kprobe:should_fail_alloc_page /{when} (arg0 & {nofail}) == 0/ {{ @page[{key}] = count(); }}
"#
    )
}

impl Bpftrace {
    /// Starts it; afterwards the hooks are watched. `nofail`: `__GFP_NOFAIL` of this kernel.
    pub fn start(nofail: u32, watched: Watched) -> Self {
        let output = std::env::temp_dir().join(format!("bpftrace-{}", std::process::id()));
        let file = File::create(&output).unwrap_or_else(|e| panic!("{}: {e}", output.display()));
        let errors = file.try_clone().unwrap_or_else(|e| panic!("dup: {e}"));
        let mut command = Command::new("bpftrace");
        command.args(["-B", "line", "-e", &program(nofail, watched)]).env("BPFTRACE_MAP_KEYS_MAX", "20000");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().unwrap_or_else(|e| panic!("bpftrace: {e}"));
        let mut bpftrace = Self { child, output };
        let start = Instant::now();
        while !bpftrace.answers() {
            let ended = bpftrace.child.try_wait().unwrap_or_else(|e| panic!("bpftrace: {e}"));
            assert!(ended.is_none() && start.elapsed() < START_LIMIT, "bpftrace: {ended:?}: {}", bpftrace.text());
            std::thread::sleep(Duration::from_millis(100));
        }
        bpftrace
    }

    /// Whether it is attached everywhere.
    fn answers(&self) -> bool {
        // SAFETY: changes the mask of this process and takes it back; no file is made in between.
        unsafe { libc::umask(libc::umask(HELLO)) };
        let kprobes = fs::read_to_string("/sys/kernel/debug/kprobes/list").unwrap_or_default();
        ["should_failslab", "should_fail_alloc_page"].iter().all(|hook| kprobes.contains(hook))
            && self.text().contains("hello")
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_else(|e| panic!("{}: {e}", self.output.display()))
    }

    /// Ends it; returns what it saw.
    pub fn stop(mut self) -> Testimony {
        // SAFETY: our own child, not waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        let status = shell::wait(&mut self.child, STOP_LIMIT);
        let text = self.text();
        assert!(status.is_some_and(|status| status.success()), "bpftrace: {status:?}: {text}");
        Testimony::parse(&text)
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.output);
    }
}

impl Testimony {
    /// Reads what bpftrace prints.
    fn parse(text: &str) -> Self {
        let mut testimony = Self::default();
        let mut open: Option<Seen> = None;
        for line in text.lines() {
            if let Some(id) = line.strip_prefix("cgroup ") {
                testimony.cgroup = id.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            } else if let Some(seen) = Seen::begin(line) {
                testimony.seen.extend(open.replace(seen));
            } else if let (Some(frame), Some(seen)) = (line.strip_prefix('\t'), &mut open) {
                let (address, name) = frame.split_once(' ').unwrap_or((frame, ""));
                seen.stack.push(u64::from_str_radix(address, 16).unwrap_or_else(|e| panic!("{line}: {e}")));
                seen.names.push(name.to_owned());
            }
        }
        testimony.seen.extend(open);
        testimony
    }
}

impl Seen {
    /// The line before a stack: `@slab[1, 4711, 0, `.
    fn begin(line: &str) -> Option<Self> {
        let (hook, keys) = line.strip_prefix('@')?.split_once('[')?;
        let mut keys = keys.split(", ");
        let mut key = || keys.next().and_then(|key| key.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"));
        let window = match key() {
            1 => Window::Recorded,
            2 => Window::Idle,
            _ => Window::Outside,
        };
        let (stack, names) = (Vec::new(), Vec::new());
        Some(Self { hook: hook.to_owned(), window, cgroup: key(), kthread: key() != 0, stack, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "Attaching 5 probes...\nhello\ncgroup 42\n\n@page[1, 42, 0, \n\tffffffff8165e0a1 \
         should_fail_alloc_page+1\n\tffffffff816511fa __alloc_pages_noprof+202\n]: 3\n@slab[2, 1, 1, \n]: 1\n@window: 3\n";

    #[test]
    fn stacks_are_read() {
        let Testimony { cgroup, seen } = Testimony::parse(PRINTED);
        let stack = vec![0xffff_ffff_8165_e0a1, 0xffff_ffff_8165_11fa];
        let names = vec!["should_fail_alloc_page+1".into(), "__alloc_pages_noprof+202".into()];
        let page = Seen { hook: "page".into(), window: Window::Recorded, cgroup: 42, kthread: false, stack, names };
        let (stack, names) = (Vec::new(), Vec::new());
        let slab = Seen { hook: "slab".into(), window: Window::Idle, cgroup: 1, kthread: true, stack, names };
        assert_eq!((cgroup, seen), (42, vec![page, slab]));
    }
}
