//! How much work a rule's programs are for the kernel's verifier.

use std::os::fd::AsFd;

use super::{ProgramConfig, attached, object, programs::Kind};
use crate::bpf;
use crate::exit::{Context as _, Result};

/// What one program took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its name; those for fmod_ret end with `_fmod_ret`, those for the module with `_module`.
    pub program: String,
    /// Instructions that the verifier went through, of a million that it may.
    pub instructions: u64,
    /// States that it kept, in all.
    pub states: u64,
    /// Instructions that are left of the program when what can't be reached is removed.
    pub translated: u32,
}

/// Loads a rule's programs one by one, attaches nothing, and says what each took.
///
/// # Errors
/// The kernel refuses one.
pub fn verify(wire: &ProgramConfig) -> Result<Vec<Verified>> {
    let all = attached::programs_of(wire)?;
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let (programs, _maps) = object::prepare(wire, 1, false, &names)?;
    let measure = |(program, kind): (String, Kind)| {
        let (fd, log) = programs.measure(&program, kind)?;
        let info = bpf::program_info(fd.as_fd())?;
        let number =
            |name| number_after(&log, name).with_context(|| format!("the verifier does not say {name}: {log}"));
        let (instructions, states) = (number("processed ")?, number("total_states ")?);
        Ok(Verified { program, instructions, states, translated: info.xlated_prog_len / 8 })
    };
    all.into_iter().map(measure).collect()
}

/// `processed 4146 insns (limit 1000000) max_states_per_insn 4 total_states 196 peak_states 131 mark_read 22`
fn number_after(log: &str, name: &str) -> Option<u64> {
    let (_, rest) = log.rsplit_once(name)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_verifier_says() {
        let log = "verification time 9 usec\nstack depth 8+0\nprocessed 4146 insns (limit 1000000) max_states_per_insn 4 \
                   total_states 196 peak_states 131 mark_read 22\n";
        assert_eq!(number_after(log, "processed "), Some(4146));
        assert_eq!(number_after(log, "total_states "), Some(196));
        assert_eq!(number_after(log, "peaks "), None);
    }
}
