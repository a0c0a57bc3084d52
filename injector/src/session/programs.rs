//! Programs that are handed to the kernel by us, of aya's object and with aya's maps: those of type BPF_MODIFY_RETURN, which
//! aya 0.14 does not load, and any whose cost for the verifier is asked for, which aya does not tell.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{Ebpf, maps::Map};
use aya_obj::{
    Object,
    generated::{bpf_attach_type, bpf_cmd, bpf_prog_type},
};

use super::{bpf, object::OBJECT};

/// As much of the verifier's log as is of use: the reason is at its end.
const LOG_BYTES: usize = 16 << 20;
const LOG_LINES: usize = 40;

/// What a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// For the entry of a function, which it may override.
    Kprobe,
    /// For the trampoline of the function with this id in vmlinux' BTF.
    FmodRet {
        /// The id.
        function: u32,
    },
    /// For a tracepoint, with what the kernel has for it.
    RawTracepoint,
}

/// `BPF_LOG_STATS` (include/linux/bpf_verifier.h): of the log only the last lines, which say what the verifier had to do.
const LOG_STATS: u32 = 4;

/// The object's programs, ready to be loaded.
pub(super) struct Programs {
    object: Object,
    /// The object's types: the verifier wants them of functions whose address is taken.
    types: OwnedFd,
}

impl Programs {
    /// Those of an object, with the maps that aya has made for it.
    pub(super) fn new(ebpf: &Ebpf) -> Result<Self> {
        let mut object = Object::parse(OBJECT)?;
        let features = aya::features().btf().context("this kernel takes no types of programs (BTF)")?;
        let types = object.fixup_and_sanitize_btf(features)?.context("the eBPF object has no types (BTF)")?.to_bytes();
        let maps = std::mem::take(&mut object.maps);
        let mut known = Vec::with_capacity(maps.len());
        for (name, map) in &maps {
            let made =
                ebpf.map(name).and_then(fd).with_context(|| format!("the eBPF object's map {name} was not made"))?;
            known.push((name.as_str(), made.as_raw_fd(), map));
        }
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(known.into_iter(), &text)?;
        object.relocate_calls(&text)?;
        object.sanitize_functions(aya::features());
        let mut attribute = bpf::attribute();
        attribute.__bindgen_anon_7.btf = types.as_ptr() as u64;
        attribute.__bindgen_anon_7.btf_size = types.len() as u32;
        // SAFETY: `types` is readable for that size.
        let types = unsafe { bpf::call_for_fd(bpf_cmd::BPF_BTF_LOAD, &mut attribute) };
        Ok(Self { object, types: types.context("the kernel refused the types of the eBPF object")? })
    }

    /// Has the kernel verify a program.
    pub(super) fn load(&self, name: &str, kind: Kind) -> Result<OwnedFd> {
        match self.try_load(name, kind, None) {
            Ok(program) => Ok(program),
            Err(error) => {
                // Writing the log takes the verifier longer than verifying, so it is asked for only now.
                let mut log = vec![0; LOG_BYTES];
                let _ = self.try_load(name, kind, Some((1, &mut log)));
                let log = text(&log);
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                Err(anyhow!("{error}: {end}"))
            }
        }
        .with_context(|| format!("the kernel refused program {name}; --backend kprobe may do"))
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
            Kind::Kprobe => bpf_prog_type::BPF_PROG_TYPE_KPROBE,
            Kind::FmodRet { function } => {
                of.expected_attach_type = bpf_attach_type::BPF_MODIFY_RETURN as u32;
                of.attach_btf_id = function;
                bpf_prog_type::BPF_PROG_TYPE_TRACING
            }
            Kind::RawTracepoint => bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT,
        };
        of.prog_type = prog_type as u32;
        of.insns = code.instructions.as_ptr() as u64;
        of.insn_cnt = code.instructions.len() as u32;
        of.license = program.license.as_ptr() as u64;
        of.prog_btf_fd = self.types.as_raw_fd().unsigned_abs();
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
        // SAFETY: everything that is pointed to outlives the call, and is of the size that is said.
        unsafe { bpf::call_for_fd(bpf_cmd::BPF_PROG_LOAD, &mut attribute) }
    }
}

/// Attaches a program to its function, for as long as the descriptor is open.
pub(super) fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attribute = bpf::attribute();
    attribute.raw_tracepoint.prog_fd = program.as_raw_fd().unsigned_abs();
    // SAFETY: without a name nothing is pointed to: the program knows where it belongs.
    unsafe { bpf::call_for_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attribute) }
}

fn text(log: &[u8]) -> String {
    CStr::from_bytes_until_nul(log).unwrap_or_default().to_string_lossy().into_owned()
}

fn fd(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) => {
            Some(data.fd().as_fd())
        }
        _ => None,
    }
}
