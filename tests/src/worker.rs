//! A process that does nothing but ask the test module for allocations.
//!
//! With `--pid` of it and probability 1 all that it does in the kernel fails, and nothing else is counted. So once
//! it runs it must need no allocation: it is forked, its memory is locked and present, requests and answers go
//! through a shared page, and it waits with futex(2).

use std::fs::File;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::module::{Outcome, RunFile};

const LINE: usize = 256;
const IDLE: u32 = 0;
const REQUEST: u32 = 1;
const ANSWER: u32 = 2;

#[repr(C)]
struct Shared {
    state: AtomicU32,
    /// What write() returned.
    written: i32,
    errno: i32,
    request_len: u32,
    answer_len: u32,
    request: [u8; LINE],
    answer: [u8; LINE],
}

/// The process. It ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    pid: u32,
    tid: u32,
    shared: *mut Shared,
    _file: RunFile,
    reaped: bool,
}

/// How to make one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The CPU that it stays on.
    pub cpu: Option<usize>,
    /// Work is done by a second thread, not by the first.
    pub second_thread: bool,
    /// What its task is called.
    pub comm: Option<&'static std::ffi::CStr>,
    /// The user that it is.
    pub uid: Option<u32>,
    /// Which PID namespace it is in.
    pub pid_namespace: PidNamespace,
}

/// A worker's PID namespace.
#[derive(Clone, Copy, Debug, Default)]
pub enum PidNamespace {
    /// That of the test.
    #[default]
    Same,
    /// A new one, of which it is the first process.
    New,
    /// A new one inside of a new one, whose first process the worker's id is of.
    Nested,
    /// That of this process.
    Of(u32),
}

/// Has the children of this thread begin in the PID namespace of a file.
fn enter(file: &File) {
    // SAFETY: the descriptor is open.
    let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWPID) };
    assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
}

fn namespace_of(process: &str) -> File {
    let path = format!("/proc/{process}/ns/pid");
    File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// As fork(), which can't make namespaces.
unsafe fn clone(flags: i32) -> i32 {
    // SAFETY: no new stack: the child goes on with a copy of this one.
    unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), 0, 0, 0, 0) as i32 }
}

/// Forks. The child's id as this process has it; 0 in the child.
fn fork(namespace: PidNamespace) -> i32 {
    let (inside, flags) = match namespace {
        PidNamespace::Same => (None, 0),
        PidNamespace::New | PidNamespace::Nested => (None, libc::CLONE_NEWPID),
        PidNamespace::Of(pid) => (Some(pid), 0),
    };
    let own = namespace_of("self");
    if let Some(pid) = inside {
        enter(&namespace_of(&pid.to_string()));
    }
    // SAFETY: the child calls nothing that depends on other threads.
    let pid = unsafe { clone(flags) };
    if pid != 0 && inside.is_some() {
        enter(&own);
    }
    pid
}

fn futex(word: &AtomicU32, operation: i32, value: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|t| libc::timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word lives in the shared page, and the time-out, if any, on this stack.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, timeout) };
}

impl Worker {
    /// Starts one that may run on any CPU.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts one that stays on a CPU.
    pub fn on_cpu(cpu: usize) -> Self {
        Self::start_with(Options { cpu: Some(cpu), ..Options::default() })
    }

    /// Starts one.
    pub fn start_with(options: Options) -> Self {
        let file = RunFile::open();
        // SAFETY: an anonymous shared mapping; the kernel fills it with zeros, which is a valid Shared.
        let shared = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Shared>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        assert_ne!(shared, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        let shared: *mut Shared = shared.cast();
        let pid = fork(options.pid_namespace);
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: the mapping outlives the child.
            unsafe { child(shared, file.fd(), options) };
        }
        let mut worker = Self { pid: pid as u32, tid: 0, shared, _file: file, reaped: false };
        // It answers once when it is ready: everything that it needs has been allocated then.
        let deadline = Instant::now() + Duration::from_secs(20);
        worker.tid = worker.wait_for_answer(deadline, "getting ready").parse().expect("the worker says its thread id");
        worker
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The id of its thread that works.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// The process id as an argument.
    pub fn pid_arg(&self) -> String {
        self.pid.to_string()
    }

    fn shared(&self) -> &Shared {
        // SAFETY: mapped as long as self lives. The fields besides the atomic are only touched by whose turn it is.
        unsafe { &*self.shared }
    }

    /// Gives it a request and does not wait.
    pub fn send(&self, request: &str) {
        assert!(request.len() < LINE, "{request:?} is too long");
        let state = &self.shared().state;
        assert_eq!(state.load(Ordering::Acquire), IDLE, "the worker has a request already");
        // SAFETY: in the idle state the page is the parent's.
        unsafe {
            (&mut (*self.shared).request)[..request.len()].copy_from_slice(request.as_bytes());
            (*self.shared).request_len = request.len() as u32;
        }
        state.store(REQUEST, Ordering::Release);
        futex(state, libc::FUTEX_WAKE, i32::MAX as u32, None);
    }

    /// Waits for the answer to what was sent.
    pub fn receive(&self) -> Outcome {
        Outcome::parse(&self.wait_for_answer(Instant::now() + Duration::from_secs(300), "a request"))
    }

    /// Whether the answer is there.
    pub fn is_done(&self) -> bool {
        self.shared().state.load(Ordering::Acquire) == ANSWER
    }

    /// Makes the allocations that `request` describes.
    pub fn run(&self, request: &str) -> Outcome {
        self.send(request);
        self.receive()
    }

    fn wait_for_answer(&self, deadline: Instant, what: &str) -> String {
        let shared = self.shared();
        loop {
            let state = shared.state.load(Ordering::Acquire);
            if state == ANSWER {
                break;
            }
            assert!(Instant::now() < deadline, "worker {}: {what} takes too long", self.pid);
            futex(&shared.state, libc::FUTEX_WAIT, state, Some(Duration::from_millis(500)));
            let mut status = 0;
            // SAFETY: waits for our own child only, without blocking.
            let ended = unsafe { libc::waitpid(self.pid as i32, &raw mut status, libc::WNOHANG) };
            assert_eq!(ended, 0, "worker {} ended with status {status:#x} during {what}", self.pid);
        }
        let answer = String::from_utf8_lossy(&shared.answer[..shared.answer_len as usize]).into_owned();
        let (written, errno) = (shared.written, shared.errno);
        shared.state.store(IDLE, Ordering::Release);
        assert!(written >= 0, "the module refused a request: {}; {answer}", std::io::Error::from_raw_os_error(errno));
        answer
    }

    /// Ends it and waits until it is gone.
    pub fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        if self.reaped {
            return;
        }
        self.reaped = true;
        // SAFETY: our own child, not yet waited for.
        unsafe {
            libc::kill(self.pid as i32, libc::SIGKILL);
            libc::waitpid(self.pid as i32, std::ptr::null_mut(), 0);
            libc::munmap(self.shared.cast(), size_of::<Shared>());
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The child. Never returns, and allocates nothing once it has answered for the first time.
unsafe fn child(shared: *mut Shared, file: i32, options: Options) -> ! {
    // SAFETY: system calls with arguments on this stack, or in the shared page whenever it is the child's turn.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if matches!(options.pid_namespace, PidNamespace::Nested) {
            let inner = clone(libc::CLONE_NEWPID);
            if inner != 0 {
                libc::_exit(if libc::waitpid(inner, std::ptr::null_mut(), 0) == inner { 0 } else { 105 });
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        if let Some(cpu) = options.cpu {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0 {
                libc::_exit(101);
            }
        }
        if let Some(comm) = options.comm
            && libc::prctl(libc::PR_SET_NAME, comm.as_ptr()) != 0
        {
            libc::_exit(103);
        }
        if let Some(uid) = options.uid
            && libc::setuid(uid) != 0
        {
            libc::_exit(104);
        }
        if options.second_thread {
            let address = shared as usize;
            let thread = std::thread::Builder::new().stack_size(256 * 1024);
            if thread.spawn(move || serve(address as *mut Shared, file)).is_err() {
                libc::_exit(102);
            }
            loop {
                libc::pause();
            }
        }
        serve(shared, file)
    }
}

unsafe fn serve(shared: *mut Shared, file: i32) -> ! {
    // SAFETY: as in child().
    unsafe {
        // Makes every page present, those that are shared with the parent until written included.
        if libc::mlockall(libc::MCL_CURRENT) != 0 {
            libc::_exit(103);
        }
        let mut digits = [0; 10];
        let mut left = libc::gettid() as u32;
        let mut at = digits.len();
        while left > 0 {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        let length = digits.len() - at;
        (&mut (*shared).answer)[..length].copy_from_slice(&digits[at..]);
        (*shared).answer_len = length as u32;
        let state = &(*shared).state;
        // Not told yet, but the answering code runs once before anything is armed.
        state.store(ANSWER, Ordering::Release);
        futex(state, libc::FUTEX_WAKE, i32::MAX as u32, None);
        loop {
            match state.load(Ordering::Acquire) {
                REQUEST => {
                    let request = (&raw const (*shared).request).cast();
                    let written = libc::pwrite(file, request, (*shared).request_len as usize, 0);
                    (*shared).written = written as i32;
                    (*shared).errno = *libc::__errno_location();
                    let answer = (&raw mut (*shared).answer).cast();
                    let length = libc::pread(file, answer, LINE, 0);
                    (*shared).answer_len = length.max(0) as u32;
                    state.store(ANSWER, Ordering::Release);
                    futex(state, libc::FUTEX_WAKE, i32::MAX as u32, None);
                }
                other => futex(state, libc::FUTEX_WAIT, other, None),
            }
        }
    }
}
