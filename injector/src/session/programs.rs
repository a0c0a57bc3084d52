//! Programs that are handed to the kernel by us, of the object that aya has read: aya 0.14 does not load those of type
//! BPF_MODIFY_RETURN, does not tell what a program costs the verifier, and reads all of the kernel's types first, which takes
//! longer than everything here.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use aya_obj::{
    Object,
    generated::{PERF_FLAG_FD_CLOEXEC, bpf_attach_type, bpf_cmd, bpf_prog_type, perf_event_attr},
};
use nix::sys::signal::{SigSet, SigmaskHow};
use tracing::debug;

use super::{hooks, maps::Maps};
use crate::bpf;
use crate::exit::{Context as _, Error, ExitCode, Result};
use crate::kernel::hooks_module::NAME;
use crate::plan::Hook;

/// As much of the verifier's log as is of use: the reason is at its end.
const LOG_BYTES: usize = 16 << 20;
const LOG_LINES: usize = 40;
/// `BPF_LOG_STATS` (include/linux/bpf_verifier.h): of the log only the last lines, which say what the verifier had to do.
const LOG_STATS: u32 = 4;
/// Where the kernel says which number kprobes have among perf's kinds of events.
const KPROBE_TYPE: &str = "/sys/bus/event_source/devices/kprobe/type";

/// What a program is, and so where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// For the entry of this function, which it may override.
    Kprobe(&'static str),
    /// For the trampoline of the function with this id in vmlinux' BTF.
    FmodRet(u32),
    /// For the tracepoint of the module injector_hooks that asks for this hook, whose verdict it may write.
    Module(Hook),
    /// For this tracepoint, with what the kernel has for it.
    RawTracepoint(&'static str),
}

/// What an object says of its types, in the kernel: the verifier wants them of functions whose address is taken.
#[derive(Debug)]
pub(super) struct Types(OwnedFd);

impl Types {
    /// Hands them to the kernel.
    pub(super) fn load(object: &mut Object) -> Result<Self> {
        let features = aya::features().btf().context("this kernel takes no types of programs (BTF)")?;
        let types = object.fixup_and_sanitize_btf(features)?.context("the eBPF object has no types (BTF)")?.to_bytes();
        let mut attribute = bpf::attribute();
        attribute.__bindgen_anon_7.btf = types.as_ptr() as u64;
        attribute.__bindgen_anon_7.btf_size = types.len() as u32;
        // SAFETY: `types` is readable for that size.
        let types = unsafe { bpf::call_for_fd(bpf_cmd::BPF_BTF_LOAD, &mut attribute) };
        Ok(Self(types.context("the kernel refused the types of the eBPF object")?))
    }
}

impl AsFd for Types {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An object's programs, ready to be loaded.
pub(super) struct Programs {
    object: Object,
    types: Types,
}

impl Programs {
    /// Those of an object, with the maps that were made for it.
    pub(super) fn new(mut object: Object, types: Types, maps: &Maps) -> Result<Self> {
        let objects = std::mem::take(&mut object.maps);
        let descriptors = maps.descriptors();
        let mut known = Vec::with_capacity(objects.len());
        for (name, map) in &objects {
            let made = descriptors.get(name.as_str()).with_context(|| format!("map {name} was not made"))?;
            known.push((name.as_str(), made.as_raw_fd(), map));
        }
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(known.into_iter(), &text)?;
        object.relocate_calls(&text)?;
        object.sanitize_functions(aya::features());
        Ok(Self { object, types })
    }

    /// Has the kernel verify a program.
    pub(super) fn load(&self, name: &str, kind: Kind) -> Result<Program> {
        let fd = match self.try_load(name, kind, None) {
            Ok(fd) => Ok(fd),
            Err(error) => {
                // Writing the log takes the verifier longer than verifying, so it is asked for only now.
                let mut log = vec![0; LOG_BYTES];
                let again = self.try_load(name, kind, Some((1, &mut log)));
                let log = text(&log);
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                again.map_err(|_| Error::new(ExitCode::INTERNAL, format!("{error}: {end}")))
            }
        };
        let hint = if matches!(kind, Kind::FmodRet(_)) { "; --backend kprobe may do" } else { "" };
        let fd = fd.with_context(|| format!("the kernel refused program {name}{hint}"))?;
        let verified = bpf::program_info(fd.as_fd()).map_or(0, |info| info.verified_insns);
        debug!(verified, "the verifier accepted program {name}");
        Ok(Program { fd, kind, link: None })
    }

    /// As [`Programs::load`], with what the verifier says of its work.
    pub(super) fn measure(&self, name: &str, kind: Kind) -> Result<(OwnedFd, String)> {
        let mut log = vec![0; LOG_BYTES];
        let program = self.try_load(name, kind, Some((LOG_STATS, &mut log)));
        let program = program.with_context(|| format!("the kernel refused program {name}: {}", text(&log)))?;
        Ok((program, text(&log)))
    }

    /// `log`: what is wanted of the verifier's log, and where to.
    fn try_load(&self, name: &str, kind: Kind, log: Option<(u32, &mut [u8])>) -> io::Result<OwnedFd> {
        let missing = || io::Error::other(format!("the eBPF object has no program {name}"));
        let program = self.object.programs.get(name).ok_or_else(missing)?;
        let code = self.object.functions.get(&program.function_key()).ok_or_else(missing)?;
        let (functions, lines) = (code.func_info.func_info_bytes(), code.line_info.line_info_bytes());
        let name = CString::new(name)?;
        let mut attribute = bpf::attribute();
        // SAFETY: all of it is zero, which is valid for each member of the union.
        let of = unsafe { &mut attribute.__bindgen_anon_3 };
        for (to, from) in of.prog_name.iter_mut().zip(name.as_bytes().iter().take(15)) {
            *to = *from as _;
        }
        let prog_type = match kind {
            Kind::Kprobe(_) => bpf_prog_type::BPF_PROG_TYPE_KPROBE,
            Kind::FmodRet(function) => {
                of.expected_attach_type = bpf_attach_type::BPF_MODIFY_RETURN as u32;
                of.attach_btf_id = function;
                bpf_prog_type::BPF_PROG_TYPE_TRACING
            }
            Kind::Module(_) => bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE,
            Kind::RawTracepoint(_) => bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT,
        };
        of.prog_type = prog_type as u32;
        of.insns = code.instructions.as_ptr() as u64;
        of.insn_cnt = code.instructions.len() as u32;
        of.license = program.license.as_ptr() as u64;
        of.prog_btf_fd = self.types.as_fd().as_raw_fd().unsigned_abs();
        of.func_info = functions.as_ptr() as u64;
        of.func_info_cnt = code.func_info.len() as u32;
        of.func_info_rec_size = code.func_info_rec_size as u32;
        of.line_info = lines.as_ptr() as u64;
        of.line_info_cnt = code.line_info.len() as u32;
        of.line_info_rec_size = code.line_info_rec_size as u32;
        if let Some((level, log)) = log {
            of.log_level = level;
            of.log_buf = log.as_mut_ptr() as u64;
            of.log_size = log.len() as u32;
        }
        // The verifier gives up with EAGAIN when a signal is pending (do_check() of kernel/bpf/verifier.c). To try again, as libbpf
        // does, is not enough in an emulated guest, where it may take longer than the next signal.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        // SAFETY: everything that is pointed to outlives the call, and is of the size that is said.
        let loaded = unsafe { bpf::call_for_fd(bpf_cmd::BPF_PROG_LOAD, &mut attribute) };
        before.thread_set_mask()?;
        loaded
    }
}

/// A program in the kernel. It goes when this is dropped, and what it is attached by before it.
#[derive(Debug)]
pub(super) struct Program {
    link: Option<OwnedFd>,
    fd: OwnedFd,
    kind: Kind,
}

impl Program {
    /// Whether it belongs to the module injector_hooks.
    pub(super) fn is_of_module(&self) -> bool {
        matches!(self.kind, Kind::Module(_))
    }

    /// Attaches it where it belongs.
    pub(super) fn attach(&mut self) -> Result<()> {
        let link = match self.kind {
            Kind::Kprobe(function) => {
                kprobe(self.fd.as_fd(), function).with_context(|| format!("can't attach to {function}"))
            }
            Kind::FmodRet(_) => {
                raw_tracepoint(self.fd.as_fd(), None).context("can't attach by fmod_ret; --backend kprobe may do")
            }
            Kind::Module(hook) => {
                let name = hooks::tracepoint(hook).context("a hook without a tracepoint")?;
                raw_tracepoint(self.fd.as_fd(), Some(&name))
                    .with_context(|| format!("can't attach to {name}, a tracepoint of the module {NAME}"))
            }
            Kind::RawTracepoint(name) => raw_tracepoint(self.fd.as_fd(), Some(name))
                .with_context(|| format!("can't attach to the tracepoint {name}")),
        };
        self.link = Some(link?);
        Ok(())
    }

    /// What the kernel knows of it.
    pub(super) fn info(&self) -> io::Result<aya_obj::generated::bpf_prog_info> {
        bpf::program_info(self.fd.as_fd())
    }

    /// How often its function was called and it was not, as far as the kernel tells: because it, or for a kprobe any other
    /// program on a kprobe, ran on that CPU already.
    pub(super) fn missed(&self) -> u64 {
        let by_program = self.info().map_or(0, |info| info.recursion_misses);
        let by_kprobe = match (self.kind, &self.link) {
            (Kind::Kprobe(_), Some(link)) => bpf::missed_by_kprobe(link.as_fd()),
            _ => 0,
        };
        by_program + by_kprobe
    }
}

/// Attaches a program to a tracepoint, or without one to its trampoline: it knows its function.
fn raw_tracepoint(program: BorrowedFd<'_>, name: Option<&str>) -> io::Result<OwnedFd> {
    let name = name.map(CString::new).transpose()?;
    let mut attribute = bpf::attribute();
    attribute.raw_tracepoint.name = name.as_ref().map_or(0, |name| name.as_ptr() as u64);
    attribute.raw_tracepoint.prog_fd = program.as_raw_fd().unsigned_abs();
    // SAFETY: the name, if there is one, outlives the call.
    unsafe { bpf::call_for_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attribute) }
}

/// Attaches a program to the entry of a function: a perf event of the kind kprobe (create_local_trace_kprobe(),
/// kernel/trace/trace_kprobe.c), which lives as long as the link.
fn kprobe(program: BorrowedFd<'_>, function: &str) -> Result<OwnedFd> {
    let kind = fs::read_to_string(KPROBE_TYPE).with_context(|| format!("can't read {KPROBE_TYPE}"))?;
    let name = CString::new(function)?;
    // SAFETY: plain numbers, for which zero stands for what is not said.
    let mut event: perf_event_attr = unsafe { std::mem::zeroed() };
    event.type_ = kind.trim().parse().with_context(|| format!("{KPROBE_TYPE} is no number: {kind:?}"))?;
    event.size = size_of::<perf_event_attr>() as u32;
    event.__bindgen_anon_3.kprobe_func = name.as_ptr() as u64;
    // SAFETY: the attributes and the name outlive the call. Any process, CPU 0, no group: it fires on all CPUs all the same.
    let event = unsafe {
        let result =
            libc::syscall(libc::SYS_perf_event_open, &raw const event, -1, 0, -1, u64::from(PERF_FLAG_FD_CLOEXEC));
        bpf::owned(result)
    };
    let event = event.context("the kernel refused the kprobe")?;
    let mut attribute = bpf::attribute();
    // SAFETY: all of it is zero, which is valid for each member of the union.
    let of = unsafe { &mut attribute.link_create };
    of.__bindgen_anon_1.prog_fd = program.as_raw_fd().unsigned_abs();
    of.__bindgen_anon_2.target_fd = event.as_raw_fd().unsigned_abs();
    of.attach_type = bpf_attach_type::BPF_PERF_EVENT as u32;
    // SAFETY: nothing is pointed to.
    let link = unsafe { bpf::call_for_fd(bpf_cmd::BPF_LINK_CREATE, &mut attribute) };
    link.context("the kernel refused the program on the kprobe")
}

fn text(log: &[u8]) -> String {
    CStr::from_bytes_until_nul(log).unwrap_or_default().to_string_lossy().into_owned()
}
