//! The hooks beside the allocators': page cache, block devices, page pools, and any function of the kernel's list by name.
//! Each fails what it is asked for, and not its neighbour.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use injector_tests::daemon::INJECTOR;
use injector_tests::{Injector, bpf, place, refused, run, shell};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// Runs a script, which must succeed.
fn sh(script: &str) -> String {
    let output = shell::output("/bin/sh", &["-e", "-c", script], LIMIT);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// This process: what its threads do is failed, what its children do is not.
fn this() -> String {
    std::process::id().to_string()
}

/// A file system in a file, in a directory of its own; unmounted and deleted in the end.
struct Disk {
    top: PathBuf,
}

impl Disk {
    fn make(fs: &str) -> Self {
        let top = std::env::temp_dir().join(format!("functions-{fs}-{}", std::process::id()));
        let disk = Self { top };
        let (mount_point, image) = (disk.mount_point(), disk.image());
        let quick = if fs == "btrfs" { "-q -f -K" } else { "-q -F" };
        sh(&format!(
            "mkdir -p {}; truncate -s 192M {image}; mkfs.{fs} {quick} {image}",
            mount_point.display(),
            image = image.display()
        ));
        disk
    }

    fn mounted(fs: &str) -> Self {
        let disk = Self::make(fs);
        sh(&disk.mount(fs));
        disk
    }

    fn mount(&self, fs: &str) -> String {
        format!("mount -t {fs} -o loop {} {}", self.image().display(), self.mount_point().display())
    }

    fn mount_point(&self) -> PathBuf {
        self.top.join("mount")
    }

    fn image(&self) -> PathBuf {
        self.top.join("image")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let top = self.top.display();
        shell::output("/bin/sh", &["-c", &format!("umount {top}/mount; rm -rf {top}")], LIMIT);
    }
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.err().map(|error| error.raw_os_error().unwrap_or_else(|| panic!("{error}")))
}

/// What the kernel lists, without the injector's help.
fn is_listed(function: &str) -> bool {
    let list = fs::read_to_string("/sys/kernel/debug/error_injection/list").expect("debugfs is mounted");
    list.lines().any(|line| line.split(['\t', ' ']).next() == Some(function))
}

/// Whether the kernel lets the hook's function be failed: 6.12's or 7.3's.
fn has_page_pool() -> bool {
    is_listed("page_pool_alloc_pages") || is_listed("page_pool_alloc_netmems")
}

#[test]
fn filemap_fails_what_a_target_adds_to_the_page_cache() {
    let disk = Disk::mounted("ext4");
    let path = |name: &str| disk.mount_point().join(name);
    let ours = File::create(path("ours")).expect("can be made");
    sh("sync");
    let injector = Injector::start(&["--hook", "filemap", "--pid", &this()]);
    let by_target = errno(ours.write_at(&[1; 4096], 0));
    let other = path("other");
    sh(&format!("dd if=/dev/zero of={} bs=4k count=8", other.display()));
    let report = injector.stop();
    assert_eq!(by_target, Some(libc::ENOMEM), "{}", report.summary);
    assert!(report.hook("filemap").get("failures") >= 1, "{}", report.summary);
    assert!(report.failures.iter().all(|failure| failure["hook"] == "filemap"), "{:?}", report.failures);
    report.assert_accounts_with_lines();
    assert_eq!(fs::metadata(other).expect("written").len(), 8 * 4096);
    // Afterwards it goes.
    assert_eq!(errno(ours.write_at(&[1; 4096], 0)), None);
}

/// A folio that is in the page cache already is not added again.
#[test]
fn filemap_leaves_alone_what_is_cached() {
    let disk = Disk::mounted("ext4");
    let ours = File::create(disk.mount_point().join("ours")).expect("can be made");
    ours.write_at(&[1; 4096], 0).expect("can be written");
    let injector = Injector::start(&["--hook", "filemap", "--pid", &this()]);
    let (cached, new) = (errno(ours.write_at(&[2; 4096], 0)), errno(ours.write_at(&[2; 4096], 1 << 20)));
    let report = injector.stop();
    assert_eq!((cached, new), (None, Some(libc::ENOMEM)), "{}", report.summary);
}

/// A loop device; detached in the end.
struct Loop {
    device: PathBuf,
    image: PathBuf,
}

impl Loop {
    fn attach() -> Self {
        let image = std::env::temp_dir().join(format!("functions-loop-{}", std::process::id()));
        let device = sh("losetup -f");
        sh(&format!("truncate -s 16M {image}; losetup {device} {image}", image = image.display()));
        Self { device: device.into(), image }
    }

    fn open(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.device).expect("can be opened")
    }

    /// Reads a megabyte past the page cache, in requests that the block layer has to split.
    fn read_split(&self) -> Option<i32> {
        /// As such a read wants it.
        #[repr(align(4096))]
        struct Aligned([u8; 1 << 20]);

        let name = self.device.file_name().and_then(|name| name.to_str()).expect("/dev/loop0");
        fs::write(format!("/sys/block/{name}/queue/max_sectors_kb"), "64").expect("root may");
        let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&self.device).expect("opens");
        let mut buffer = Box::new(Aligned([0; 1 << 20]));
        errno(direct.read_at(&mut buffer.0, 0))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.image);
        shell::output("losetup", &["-d", &self.device.to_string_lossy()], LIMIT);
    }
}

/// Whether a function's body is in its callers of the same file, which then never call it: so gcc does since 7.x with
/// should_fail_bio() (block/blk-core.c) and page_pool_alloc_netmems() (net/core/page_pool.c). Listed it is all the same.
fn is_inlined() -> bool {
    let release = place::release();
    let major = release.split('.').next().and_then(|major| major.parse::<u32>().ok()).expect("a number");
    major >= 7
}

/// Requests that are split are submitted by a function of another file (block/blk-merge.c), on each kernel.
#[test]
fn bio_fails_what_is_split() {
    let device = Loop::attach();
    assert_eq!(device.read_split(), None);
    let injector = Injector::start(&["--hook", "bio", "--pid", &this()]);
    let read = device.read_split();
    let report = injector.stop();
    assert_eq!(read, Some(libc::EIO), "{}", report.summary);
    assert!(report.hook("bio").get("failures") >= 1, "{}", report.summary);
    report.assert_accounts_with_lines();
    assert_eq!(device.read_split(), None);
}

#[test]
fn bio_fails_what_a_target_submits() {
    if is_inlined() {
        println!("not on this kernel: see bio_fails_what_is_split");
        return;
    }
    let device = Loop::attach();
    let ours = device.open();
    let drop_caches = || fs::write("/proc/sys/vm/drop_caches", "1").expect("root may");
    drop_caches();
    let injector = Injector::start(&["--hook", "bio", "--pid", &this()]);
    let read = errno(ours.read_at(&mut [0; 4096], 0));
    let written = ours.write_at(&[1; 4096], 1 << 20).and_then(|_| ours.sync_all());
    let by_other = format!("dd if=/dev/zero of={} bs=4k count=8 seek=1024 conv=fsync", device.device.display());
    sh(&by_other);
    let report = injector.stop();
    // The block layer makes an EIO of whatever the function returns.
    assert_eq!((read, errno(written)), (Some(libc::EIO), Some(libc::EIO)), "{}", report.summary);
    assert!(report.hook("bio").get("failures") >= 2, "{}", report.summary);
    report.assert_accounts_with_lines();
    drop_caches();
    assert_eq!(errno(ours.read_at(&mut [0; 4096], 0)), None);
    assert_eq!(errno(ours.write_at(&[1; 4096], 1 << 20).and_then(|_| ours.sync_all())), None);
}

/// An XDP program that drops every frame, run by the kernel on frames of a page pool's pages
/// (BPF_F_TEST_XDP_LIVE_FRAMES).
struct Frames {
    program: OwnedFd,
}

impl Frames {
    fn load() -> Self {
        const PROG_LOAD: i64 = 5;
        const XDP: u32 = 6;
        // r0 = XDP_DROP; exit
        let instructions = [0x0000_0001_0000_00b7_u64, 0x0000_0000_0000_0095];
        let license = c"GPL";
        let mut attributes = [0_u64; 16];
        attributes[0] = u64::from(XDP) | (instructions.len() as u64) << 32;
        attributes[1] = instructions.as_ptr() as u64;
        attributes[2] = license.as_ptr() as u64;
        // SAFETY: the attributes hold pointers to buffers that live on, with their lengths.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &attributes, size_of_val(&attributes)) };
        assert!(fd >= 0, "loading: {}", io::Error::last_os_error());
        // SAFETY: the descriptor is new, and nobody else's.
        Self { program: unsafe { OwnedFd::from_raw_fd(fd as i32) } }
    }

    fn run(&self, frames: u32) -> Option<i32> {
        const PROG_TEST_RUN: i64 = 10;
        const LIVE_FRAMES: u64 = 1 << 1;
        let frame = [0_u8; 64];
        let mut attributes = [0_u64; 10];
        attributes[0] = self.program.as_raw_fd() as u64;
        attributes[1] = frame.len() as u64;
        attributes[2] = frame.as_ptr() as u64;
        attributes[4] = u64::from(frames);
        attributes[8] = LIVE_FRAMES;
        // SAFETY: as above.
        let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &attributes, size_of_val(&attributes)) };
        (result < 0).then(|| io::Error::last_os_error().raw_os_error().expect("a system call failed"))
    }
}

#[test]
fn page_pool_fails_a_drivers_pages() {
    if !has_page_pool() {
        // 6.1 has page pools, and does not let them be failed.
        // The module injector_hooks, which guests have, can.
        let arguments = ["--all", "--backend", "kprobe", "--hook", "page-pool", "--prob", "0.1"];
        let output = shell::output(INJECTOR, &arguments, LIMIT);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(
            stderr.contains("neither page_pool_alloc_pages nor page_pool_alloc_netmems is in the error injection list"),
            "{stderr}"
        );
        println!("not on this kernel: {stderr}");
        return;
    }
    let frames = Frames::load();
    assert_eq!(frames.run(64), None);
    let mut arguments = vec!["--all", "--hook", "page-pool", "--prob", "1", "--times", "1"];
    if is_inlined() {
        // These frames come by page_pool_alloc_pages(), whose entry the module hooks.
        arguments.extend(["--backend", "module"]);
    }
    let injector = Injector::start(&arguments);
    let first = frames.run(64);
    let second = frames.run(64);
    let report = injector.stop();
    assert_eq!((first, second), (Some(libc::ENOMEM), None), "{}", report.summary);
    assert_eq!(report.hook("page-pool").get("failures"), 1, "{}", report.summary);
    report.assert_accounts_with_lines();
}

/// openat() by its name: the function that is really called, with the error that was asked for. Other calls go on, and so do
/// other tasks'.
#[test]
fn a_system_call_by_name() {
    let injector = Injector::start(&["--function", "openat=EACCES", "--pid", &this()]);
    let open = errno(File::open("/proc/version"));
    let stat = errno(fs::metadata("/proc/version"));
    // Started without opening anything here.
    let mut other = Command::new("/bin/cat");
    let by_other = other.arg("/proc/version").stdin(Stdio::inherit()).output().expect("cat");
    let by_other = String::from_utf8_lossy(&by_other.stdout).into_owned();
    let report = injector.stop();
    assert_eq!((open, stat), (Some(libc::EACCES), None), "{}", report.summary);
    assert!(by_other.starts_with("Linux "), "{by_other}");
    assert_eq!(report.hook("__x64_sys_openat").get("failures"), 1, "{}", report.summary);
    assert_eq!(report.failures[0]["error"].as_i64(), Some(-i64::from(libc::EACCES)), "{:?}", report.failures[0]);
    report.assert_accounts_with_lines();
}

#[test]
fn a_system_call_of_a_command() {
    let script = "[ -e /proc/version ] || exit 7; if read line </proc/version; then exit 8; fi; exit 9";
    let finished = run(&["--function", "openat=EACCES", "--times", "100", "--", "sh", "-c", script]);
    assert_eq!(finished.status.code(), Some(9), "{}\n{}", finished.stderr, finished.report.summary);
    assert!(finished.report.hook("__x64_sys_openat").get("failures") >= 1, "{}", finished.report.summary);
}

/// Calls whose function is not called as they are.
#[test]
fn system_calls_with_other_names() {
    let path = c"/proc/version";
    // SAFETY: the buffer is larger than any struct stat; getpid() and getppid() have no arguments.
    let call = |number: i64, buffer: &mut [u64; 64]| match unsafe { libc::syscall(number, path.as_ptr(), buffer) } {
        ..0 => io::Error::last_os_error().raw_os_error(),
        _ => None,
    };
    for (function, symbol, number, neighbour) in [
        ("stat=EIO", "__x64_sys_newstat", libc::SYS_stat, libc::SYS_lstat),
        ("getpid=EIO", "__do_sys_getpid", libc::SYS_getpid, libc::SYS_getppid),
    ] {
        let injector = Injector::start(&["--function", function, "--pid", &this()]);
        let mut buffer = [0; 64];
        let results = (call(number, &mut buffer), call(neighbour, &mut buffer));
        let report = injector.stop();
        assert_eq!(results, (Some(libc::EIO), None), "{function}: {}", report.summary);
        assert!(report.hook(symbol).get("failures") >= 1, "{function}: {}", report.summary);
    }
}

/// Two functions and a named hook in one rule, each with its own error.
#[test]
fn several_in_one_rule() {
    let arguments = ["--hook", "bio", "--function", "openat=EACCES", "--function", "getppid=EIO", "--pid", &this()];
    let injector = Injector::start(&arguments);
    let open = errno(File::open("/proc/version"));
    // SAFETY: it has no arguments.
    let parent = unsafe { libc::syscall(libc::SYS_getppid) };
    let parent = (parent < 0).then(io::Error::last_os_error).and_then(|error| error.raw_os_error());
    let report = injector.stop();
    assert_eq!((open, parent), (Some(libc::EACCES), Some(libc::EIO)), "{}", report.summary);
    for (hook, failures) in [("__x64_sys_openat", 1), ("__do_sys_getppid", 1), ("bio", 0)] {
        assert_eq!(report.hook(hook).get("failures"), failures, "{hook}: {}", report.summary);
    }
}

#[test]
fn a_function_of_btrfs() {
    let (btrfs, ext4) = (Disk::make("btrfs"), Disk::make("ext4"));
    let script = format!("{} || exit 7; {} && exit 8; exit 9", ext4.mount("ext4"), btrfs.mount("btrfs"));
    let finished = run(&["--function", "open_ctree=EIO", "--times", "10", "--", "sh", "-c", &script]);
    assert_eq!(finished.status.code(), Some(9), "{}\n{}", finished.stderr, finished.report.summary);
    assert_eq!(finished.report.hook("open_ctree").get("failures"), 1, "{}", finished.report.summary);
}

/// Moves a file system's blocks, in this thread: `btrfs balance`.
fn balance(disk: &Disk) -> io::Result<()> {
    // BTRFS_IOC_BALANCE_V2, with struct btrfs_ioctl_balance_args: 1024 bytes that begin with BTRFS_BALANCE_DATA.
    const BALANCE: libc::c_ulong = 0xc400_9420;
    let mut arguments = [0_u64; 128];
    arguments[0] = 1;
    let directory = File::open(disk.mount_point())?;
    // SAFETY: the buffer has the size that is in the number.
    match unsafe { libc::ioctl(directory.as_raw_fd(), BALANCE, arguments.as_mut_ptr()) } {
        ..0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The same in a thread that is called so.
fn balance_as(name: &str, disk: &Disk) -> Option<i32> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, || errno(balance(disk)));
        thread.expect("a thread").join().expect("no panic")
    })
}

/// Of functions that return true or false there are two: the page hook's, and this one, which says that a balance is to be
/// given up. Other tasks' balances go on, and so does what else the task does to the file system.
#[test]
fn a_function_that_returns_true() {
    let disk = Disk::mounted("btrfs");
    fs::write(disk.mount_point().join("before"), [1; 1 << 20]).expect("can be written");
    sh("sync");
    for function in ["btrfs_should_cancel_balance", "btrfs_should_cancel_balance=TRUE"] {
        let injector = Injector::start(&["--function", function, "--pid", &this(), "--comm", "gives-up"]);
        let (ours, others) = (balance_as("gives-up", &disk), balance_as("goes-on", &disk));
        let written = errno(fs::write(disk.mount_point().join("after"), "x"));
        let report = injector.stop();
        // btrfs_balance() says EINVAL to a balance that is cancelled before it began.
        assert_eq!((ours, others, written), (Some(libc::EINVAL), None, None), "{function}: {}", report.summary);
        assert_eq!(report.hook("btrfs_should_cancel_balance").get("failures"), 1, "{}", report.summary);
        assert_eq!(report.failures[0]["error"].as_i64(), Some(1), "{:?}", report.failures[0]);
        assert_eq!(report.failures[0]["comm"].as_str(), Some("gives-up"), "{:?}", report.failures[0]);
        report.assert_accounts_with_lines();
        assert_eq!(balance_as("gives-up", &disk), None, "{function}");
    }
    // The other one has guards, which --function would pass by.
    refused(&["--function", "should_fail_alloc_page=TRUE", "--prob", "0.1"], 2, &["--hook page"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let pid = this();
    let refuse = |functions: &[&str], words: &[&str]| {
        let options = functions.iter().flat_map(|function| ["--function", function]);
        let arguments: Vec<&str> = ["--pid", &pid].into_iter().chain(options).collect();
        refused(&arguments, 2, words);
    };
    refuse(&["openat=NULL"], &["__x64_sys_openat", "NULL", "ERRNO"]);
    refuse(&["open_ctree=TRUE"], &["open_ctree", "ERRNO"]);
    refuse(&["btrfs_should_cancel_balance=EIO"], &["EIO", "only TRUE"]);
    refuse(&["opennat"], &["opennat", "injector hooks", "openat"]);
    refuse(&["vfs_read"], &["vfs_read", "injector hooks"]);
    refuse(&["should_failslab"], &["--hook slab"]);
    refuse(&["openat", "__x64_sys_openat=EIO"], &["are the same"]);
    assert!(bpf::ours().is_empty());
}

/// The list is the kernel's, whole, and each option in it is one that is taken.
#[test]
fn hooks_lists_what_the_kernel_lists() {
    let output = shell::output(INJECTOR, &["hooks", "--json"], LIMIT);
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let functions = list["functions"].as_array().expect("a list");
    let kernel = fs::read_to_string("/sys/kernel/debug/error_injection/list").expect("debugfs is mounted");
    assert_eq!(functions.len(), kernel.lines().count());
    for function in functions {
        assert!(is_listed(function["function"].as_str().expect("a text")), "{function}");
    }
    let text = shell::output(INJECTOR, &["hooks"], LIMIT);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for option in ["--hook slab", "--hook filemap", "--hook bio", "--function openat", "--function open_ctree"] {
        assert!(text.lines().any(|line| line.ends_with(option)), "{option}:\n{text}");
    }
    assert_eq!(text.contains("--hook page-pool can't be used"), !has_page_pool(), "{text}");

    let nothing = shell::output(INJECTOR, &["hooks", "no_such_function"], LIMIT);
    assert_eq!(nothing.status.code(), Some(2));
    let hidden = format!("umount -l /sys/kernel/debug && {INJECTOR} hooks");
    let hidden = shell::output("unshare", &["-m", "sh", "-c", &hidden], LIMIT);
    let stderr = String::from_utf8_lossy(&hidden.stderr);
    assert_eq!(hidden.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("mount -t debugfs debugfs /sys/kernel/debug"), "{stderr}");
}
