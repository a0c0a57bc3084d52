//! Symbols that the kernel is asked for by name, instead of having it write all of them down.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd},
};

use aya_obj::generated::{BPF_F_SLEEPABLE, bpf_cmd, bpf_func_id, bpf_prog_type};

use crate::bpf::{
    self,
    instructions::{EXIT, FRAME, R0, R1, R2, R3, R4, R6, add, call, copy, load, set, store, store_word},
};

/// `BPF_PROG_TYPE_SYSCALL`, which aya does not know: a program that runs once, when it is told to.
const SYSCALL: u32 = bpf_prog_type::BPF_PROG_TYPE_SYSCALL as u32;

/// The addresses of these names, in their order; none where the kernel has no such symbol. Those of variables that each CPU
/// has are offsets, as in the file. What the kernel proper does not have, modules are asked for.
///
/// The kernel finds a name by bisection (`kallsyms_lookup_name()`, kernel/kallsyms.c, 6.12, and 6.1.192 by a backport; the first
/// releases of 6.1 unpacked all names for each).
///
/// # Errors
/// The kernel does not tell them (kernel.kptr_restrict), or does not take the program.
pub(super) fn ask(names: &[String]) -> io::Result<Vec<Option<u64>>> {
    let instructions = program(names);
    let mut attribute = bpf::attribute();
    // SAFETY: all of it is zero, which is valid for each member of the union.
    let of = unsafe { &mut attribute.__bindgen_anon_3 };
    of.prog_type = SYSCALL;
    of.prog_flags = BPF_F_SLEEPABLE;
    of.insns = instructions.as_ptr() as u64;
    of.insn_cnt = instructions.len() as u32;
    of.license = c"GPL".as_ptr() as u64;
    // SAFETY: what is pointed to outlives the call and is as long as is said.
    let program = unsafe { bpf::call_for_fd(bpf_cmd::BPF_PROG_LOAD, &mut attribute)? };

    let mut answers = vec![Answer::default(); names.len()];
    let mut attribute = bpf::attribute();
    attribute.test.prog_fd = program.as_fd().as_raw_fd().unsigned_abs();
    attribute.test.ctx_in = answers.as_mut_ptr() as u64;
    attribute.test.ctx_size_in = size_of_val(answers.as_slice()) as u32;
    // SAFETY: the program writes within `answers`, to which the kernel copies what it wrote.
    unsafe { bpf::call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attribute)? };
    answers.into_iter().map(Answer::address).collect()
}

/// What the program writes for a name.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Answer {
    /// What the helper returns.
    status: i64,
    address: u64,
}

impl Answer {
    fn address(self) -> io::Result<Option<u64>> {
        match i32::try_from(self.status) {
            Ok(0) => Ok(Some(self.address)),
            Ok(status) if status == -libc::ENOENT => Ok(None),
            Ok(status) => Err(io::Error::from_raw_os_error(-status)),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Where the helper writes an address, below the frame pointer; a name stands below that.
const RESULT: i16 = -8;

/// For each name: `context[i].status = bpf_kallsyms_lookup_name(name, sizeof(name), 0, &result); context[i].address = result`.
fn program(names: &[String]) -> Vec<u64> {
    const CALL: u64 = call(bpf_func_id::BPF_FUNC_kallsyms_lookup_name as u32);
    let mut program = vec![copy(R6, R1), set(R0, 0), store(FRAME, RESULT, R0)];
    for (name, answer) in names.iter().zip((0..).step_by(size_of::<Answer>())) {
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        debug_assert!(CStr::from_bytes_with_nul(&bytes).is_ok(), "{name:?}");
        let length = bytes.len();
        bytes.resize(length.next_multiple_of(8), 0);
        let start = RESULT - bytes.len() as i16;
        for (word, at) in bytes.chunks_exact(4).zip((start..).step_by(4)) {
            program.push(store_word(FRAME, at, u32::from_le_bytes([word[0], word[1], word[2], word[3]])));
        }
        program.extend([
            copy(R1, FRAME),
            add(R1, start),
            set(R2, length as u32),
            set(R3, 0),
            copy(R4, FRAME),
            add(R4, RESULT),
            CALL,
            load(R1, FRAME, RESULT),
            store(R6, answer, R0),
            store(R6, answer + 8, R1),
        ]);
    }
    program.extend([set(R0, 0), EXIT]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_on_the_stack() {
        let program = program(&["_stext".to_owned()]);
        // `bpftool prog dump xlated` of these: r6 = r1; r0 = 0; *(u64 *)(r10 -8) = r0; *(u32 *)(r10 -16) = "_ste"; …
        let expected = [0x16bf, 0xb7, 0xfff8_0a7b, 0x6574_735f_fff0_0a62, 0x0000_7478_fff4_0a62, 0xa1bf];
        assert_eq!(program[..6], expected, "{program:x?}");
        assert_eq!(program[6], 0xffff_fff0_0000_0107);
        assert_eq!(program[program.len() - 2..], [0xb7, 0x95]);
    }

    #[test]
    fn answers() {
        let answer = |status, address| Answer { status, address }.address();
        assert_eq!(answer(0, 0x1000).unwrap(), Some(0x1000));
        assert_eq!(answer(i64::from(-libc::ENOENT), 0).unwrap(), None);
        assert_eq!(answer(i64::from(-libc::EPERM), 0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
