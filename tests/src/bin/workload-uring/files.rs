//! Files: opened, written, read, synced, moved; with buffers and descriptors that are registered.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use injector_tests::steps::{Steps, expect};
use io_uring::squeue::Entry;
use io_uring::types::{Fd, Fixed};
use io_uring::{Probe, opcode};

use crate::ring::{LENGTH, Ring, fd};

const HERE: Fd = Fd(libc::AT_FDCWD);
const SIZE: u32 = LENGTH as u32;

/// The paths, as the kernel takes them.
struct Names {
    directory: CString,
    file: CString,
    moved: CString,
}

pub fn run(steps: &mut Steps, ring: &mut Ring) {
    let directory = std::env::temp_dir().join("injector-workload-uring");
    // Of a run that was killed.
    let _ = fs::remove_dir_all(&directory);
    let Some(names) = steps.step("names", || Names::below(&directory)) else { return };
    steps.step("nop", || ring.nop());
    steps.step("probe", || ring.ring.submitter().register_probe(&mut Probe::new()));
    steps.step("mkdirat", || ring.one(opcode::MkDirAt::new(HERE, names.directory.as_ptr()).mode(0o700).build()));
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC;
    let open = || {
        let number = ring.one(opcode::OpenAt::new(HERE, names.file.as_ptr()).flags(flags).mode(0o600).build())?;
        // SAFETY: the kernel has just made it for this process.
        Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
    };
    if let Some(file) = steps.step("openat", open) {
        plain(steps, ring, &file);
        fixed_buffers(steps, ring, &file);
        fixed_files(steps, ring, &file);
        // From here on the ring closes it.
        let number = Fd(std::os::fd::IntoRawFd::into_raw_fd(file));
        steps.step("close", || ring.one(opcode::Close::new(number).build()));
    }
    let rename = || ring.one(opcode::RenameAt::new(HERE, names.file.as_ptr(), HERE, names.moved.as_ptr()).build());
    steps.step("renameat", rename);
    steps.step("linkat", || {
        ring.one(opcode::LinkAt::new(HERE, names.moved.as_ptr(), HERE, names.file.as_ptr()).build())
    });
    for (what, name, flags) in [
        ("unlinkat", &names.moved, 0),
        ("unlinkat of the link", &names.file, 0),
        ("unlinkat of the directory", &names.directory, libc::AT_REMOVEDIR),
    ] {
        steps.step(what, || ring.one(opcode::UnlinkAt::new(HERE, name.as_ptr()).flags(flags).build()));
    }
    let _ = fs::remove_dir_all(&directory);
}

impl Names {
    fn below(directory: &Path) -> io::Result<Self> {
        let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
        Ok(Self {
            directory: name(directory)?,
            file: name(&directory.join("file"))?,
            moved: name(&directory.join("moved"))?,
        })
    }
}

/// One that must move the whole buffer.
fn whole(ring: &mut Ring, request: Entry) -> io::Result<()> {
    expect("the length", ring.one(request)?, SIZE)
}

fn plain(steps: &mut Steps, ring: &mut Ring, file: &OwnedFd) {
    let file = fd(file);
    steps.step("fallocate", || ring.one(opcode::Fallocate::new(file, 4 * u64::from(SIZE)).build()));
    steps.step("write", || {
        let request = opcode::Write::new(file, ring.out.as_ptr(), SIZE).build();
        whole(ring, request)
    });
    steps.step("writev", || {
        let base = ring.out.as_mut_ptr();
        let vectors =
            [0, LENGTH / 2].map(|at| libc::iovec { iov_base: base.wrapping_add(at).cast(), iov_len: LENGTH / 2 });
        whole(ring, opcode::Writev::new(file, vectors.as_ptr(), 2).offset(u64::from(SIZE)).build())
    });
    steps.step("fsync", || ring.one(opcode::Fsync::new(file).build()));
    steps.step("read", || {
        let request = opcode::Read::new(file, ring.back.as_mut_ptr(), SIZE).build();
        whole(ring, request)?;
        expect("what came", ring.back == ring.out, true)
    });
    steps.step("statx", || {
        let mut answer = Box::new([0_u64; 64]);
        let request = opcode::Statx::new(file, c"".as_ptr(), answer.as_mut_ptr().cast());
        // What the kernel writes to must outlive a request that is given up.
        let _answer = Box::leak(answer);
        ring.one(request.flags(libc::AT_EMPTY_PATH).mask(libc::STATX_BASIC_STATS).build())
    });
}

fn fixed_buffers(steps: &mut Steps, ring: &mut Ring, file: &OwnedFd) {
    let file = fd(file);
    let register = || {
        let base = [ring.out.as_mut_ptr(), ring.back.as_mut_ptr()];
        let vectors = base.map(|base| libc::iovec { iov_base: base.cast(), iov_len: LENGTH });
        // SAFETY: the buffers are never freed.
        unsafe { ring.ring.submitter().register_buffers(&vectors) }
    };
    if steps.step("register buffers", register).is_none() {
        return;
    }
    steps.step("write from a fixed buffer", || {
        let request = opcode::WriteFixed::new(file, ring.out.as_ptr(), SIZE, 0).build();
        whole(ring, request)
    });
    steps.step("read into a fixed buffer", || {
        let request = opcode::ReadFixed::new(file, ring.back.as_mut_ptr(), SIZE, 1).build();
        whole(ring, request)
    });
    steps.step("unregister buffers", || ring.ring.submitter().unregister_buffers());
}

fn fixed_files(steps: &mut Steps, ring: &mut Ring, file: &OwnedFd) {
    let number = file.as_raw_fd();
    if steps.step("register files", || ring.ring.submitter().register_files(&[number, -1])).is_none() {
        return;
    }
    steps.step("read from a fixed file", || {
        let request = opcode::Read::new(Fixed(0), ring.back.as_mut_ptr(), SIZE).build();
        whole(ring, request)
    });
    steps.step("update files", || ring.ring.submitter().register_files_update(0, &[-1, number]));
    steps.step("write to the other", || {
        let request = opcode::Write::new(Fixed(1), ring.out.as_ptr(), SIZE).build();
        whole(ring, request)
    });
    steps.step("unregister files", || ring.ring.submitter().unregister_files());
}
