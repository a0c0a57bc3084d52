//! The kernel's taint flags: `/proc/sys/kernel/tainted`.
//!
//! A flag stays for the rest of the boot. So it tells of damage even when the text was overwritten in the log, but only the
//! first of its kind; the sweep compares two readings.

use super::{Complaint, Kind};
use crate::kernel::{KernelError, KernelFiles};

const FILE: &str = "proc/sys/kernel/tainted";

/// A taint flag: Documentation/admin-guide/tainted-kernels.rst and `taint_flags` in kernel/panic.c of 6.12; bit 19 came
/// with 6.16.
#[derive(Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its bit in `/proc/sys/kernel/tainted`.
    pub bit: u32,
    /// Its letter in a splat's `Tainted:`.
    pub letter: char,
    /// Why it is set.
    pub reason: &'static str,
    /// What it is as a complaint; none for what describes the machine or its modules, not damage.
    pub damage: Option<Kind>,
}

const fn flag(bit: u32, letter: char, damage: Option<Kind>, reason: &'static str) -> Flag {
    Flag { bit, letter, reason, damage }
}

/// All of them by bit.
pub const FLAGS: [Flag; 20] = [
    flag(0, 'P', None, "proprietary module was loaded"),
    flag(1, 'F', None, "module was force loaded"),
    flag(2, 'S', None, "kernel running on an out of specification system"),
    flag(3, 'R', None, "module was force unloaded"),
    // Software can make the processor report one: by an access to an address where nothing answers.
    flag(4, 'M', Some(Kind::Oops), "processor reported a Machine Check Exception"),
    flag(5, 'B', Some(Kind::Oops), "bad page or bad memory access found"),
    flag(6, 'U', None, "taint requested by user space"),
    flag(7, 'D', Some(Kind::Oops), "kernel died: an oops or BUG"),
    flag(8, 'A', None, "ACPI table overridden by user"),
    flag(9, 'W', Some(Kind::Warning), "kernel issued a warning"),
    flag(10, 'C', None, "staging driver was loaded"),
    flag(11, 'I', None, "workaround for a bug in platform firmware applied"),
    flag(12, 'O', None, "externally-built module was loaded"),
    flag(13, 'E', None, "unsigned module was loaded"),
    flag(14, 'L', Some(Kind::Hang), "soft lockup occurred"),
    flag(15, 'K', None, "kernel has been live patched"),
    flag(16, 'X', None, "auxiliary taint, used by distributions"),
    flag(17, 'T', None, "kernel was built with the struct randomization plugin"),
    flag(18, 'N', None, "an in-kernel test has been run"),
    flag(19, 'J', None, "fwctl's mutating debug interface was used"),
];

/// The value of `/proc/sys/kernel/tainted` at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taint(pub u64);

impl Taint {
    /// The flags now.
    ///
    /// # Errors
    /// The file can't be read or holds no number.
    pub fn read(files: &KernelFiles) -> Result<Self, KernelError> {
        let text = files.read_text(FILE)?;
        let malformed = |error: std::num::ParseIntError| KernelError::Malformed {
            what: format!("/{FILE}"),
            why: format!("`{}`: {error}", text.trim()),
        };
        text.trim().parse().map(Self).map_err(malformed)
    }

    /// The known flags that are set.
    pub fn flags(self) -> impl Iterator<Item = &'static Flag> {
        FLAGS.iter().filter(move |flag| self.0 & (1 << flag.bit) != 0)
    }

    /// The letters of what is set, `OE`; a bit that is not known is `?`.
    #[must_use]
    pub fn letters(self) -> String {
        let unknown = (self.0 >> FLAGS.len()).count_ones() as usize;
        self.flags().map(|flag| flag.letter).chain(std::iter::repeat_n('?', unknown)).collect()
    }

    /// What is set here and was not before.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self(self.0 & !before.0)
    }

    /// The worst of what is set, as a complaint, for when the kernel's words for it were lost. None when nothing that is set
    /// means damage.
    #[must_use]
    pub fn complaint(self) -> Option<Complaint> {
        let flag = self.flags().filter(|flag| flag.damage.is_some()).max_by_key(|flag| flag.damage)?;
        let text: Vec<String> = self.flags().map(|flag| format!("[{}]={}", flag.letter, flag.reason)).collect();
        let title = format!("taint flag {}: {}", flag.letter, flag.reason);
        Some(Complaint { kind: flag.damage?, title, splat: text.join("\n") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_table_is_by_bit() {
        for (bit, flag) in FLAGS.iter().enumerate() {
            assert_eq!(flag.bit as usize, bit);
        }
    }

    #[test]
    fn what_is_damage() {
        let damage = |value| Taint(value).complaint().map(|complaint| complaint.kind);
        assert_eq!(damage(0), None);
        assert_eq!(damage(1 << 12 | 1 << 13), None, "the test module's own");
        assert_eq!(damage(1 << 12 | 1 << 9), Some(Kind::Warning));
        assert_eq!(damage(1 << 9 | 1 << 7), Some(Kind::Oops));
        assert_eq!(damage(1 << 5), Some(Kind::Oops));
        assert_eq!(damage(1 << 14), Some(Kind::Hang));
        assert_eq!(damage(1 << 40), None);
    }

    #[test]
    fn the_worst_names_it() {
        let complaint = Taint(4609 | 1 << 7).complaint().unwrap();
        assert_eq!(complaint.title, "taint flag D: kernel died: an oops or BUG");
        assert_eq!(
            complaint.splat,
            "[P]=proprietary module was loaded\n[D]=kernel died: an oops or BUG\n[W]=kernel issued a warning\n\
             [O]=externally-built module was loaded"
        );
    }

    #[test]
    fn letters_and_difference() {
        // the documentation's example: 'P        W  O     '
        assert_eq!(Taint(4609).letters(), "PWO");
        assert_eq!(Taint(1 << 63 | 1).letters(), "P?");
        assert_eq!(Taint(4609).since(Taint(4096)), Taint(513));
        assert_eq!(Taint(4096).since(Taint(4609)), Taint(0));
    }

    #[test]
    fn read() {
        let root = tempfile::tempdir().unwrap();
        let files = KernelFiles::new(root.path());
        assert!(matches!(Taint::read(&files), Err(KernelError::File { .. })));
        fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        fs::write(files.path(FILE), "4609\n").unwrap();
        assert_eq!(Taint::read(&files).unwrap(), Taint(4609));
        fs::write(files.path(FILE), "tainted\n").unwrap();
        let error = Taint::read(&files).unwrap_err().to_string();
        assert_eq!(error, "/proc/sys/kernel/tainted is malformed: `tainted`: invalid digit found in string");
    }
}
