//! Frames as the kernel prints them: with the length of the function.

use std::ops::Range;

use super::Kallsyms;

/// A frame by its parts: `symbol+0x1f`, `symbol+0x1f [module]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame<'a> {
    name: &'a str,
    offset: u64,
    module: Option<&'a str>,
}

impl<'a> Frame<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (place, module) = match text.split_once(" [") {
            Some((place, module)) => (place, Some(module.strip_suffix(']')?)),
            None => (text, None),
        };
        let (name, offset) = place.rsplit_once("+0x")?;
        Some(Self { name, offset: u64::from_str_radix(offset, 16).ok()?, module })
    }
}

impl Kallsyms {
    /// The same frames as `%pS` writes them: `symbol+0x1f/0x2b0 [module]`. A frame whose function is not known stays as it
    /// is. Of several functions with the name it is the first that is long enough.
    #[must_use]
    pub fn with_lengths(&self, stack: &[String]) -> Vec<String> {
        let frames: Vec<Option<Frame<'_>>> = stack.iter().map(|frame| Frame::parse(frame)).collect();
        let mut lengths: Vec<Option<u64>> = vec![None; frames.len()];
        for (i, entry) in self.symbols.iter().enumerate().filter(|(_, entry)| entry.length > 0) {
            let name = self.name(entry);
            for (frame, length) in frames.iter().zip(&mut lengths).filter(|(_, length)| length.is_none()) {
                let Some(frame) = frame else { continue };
                if frame.name == name && frame.module == self.module(entry) {
                    let Range { start, end } = self.addresses(i);
                    *length = Some(end - start).filter(|length| frame.offset <= *length);
                }
            }
        }
        let written = stack.iter().zip(frames).zip(lengths).map(|((text, frame), length)| match (frame, length) {
            (Some(Frame { name, offset, module }), Some(length)) => {
                let module = module.map_or(String::new(), |module| format!(" [{module}]"));
                format!("{name}+{offset:#x}/{length:#x}{module}")
            }
            _ => text.clone(),
        });
        written.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::files, *};

    const TEXT: &str = "\
ffffffff81000000 t twice
ffffffff81000010 T xfs_alloc
ffffffff81000300 t twice
ffffffff81000400 T _etext
ffffffffc0002000 t nfs_late\t[nfs]
ffffffffc0002040 t xfs_alloc\t[nfs]
ffffffffc0002100 d nfs_data\t[nfs]
";

    #[test]
    fn frames_get_the_length_of_their_function() {
        let (_root, files) = files(TEXT);
        let symbols = Kallsyms::read(&files).unwrap();
        let cases = [
            ("xfs_alloc+0x2f", "xfs_alloc+0x2f/0x2f0"),
            ("xfs_alloc+0x2f [nfs]", "xfs_alloc+0x2f/0xc0 [nfs]"),
            // A call that never comes back may be the last instruction.
            ("nfs_late+0x40 [nfs]", "nfs_late+0x40/0x40 [nfs]"),
            ("twice+0x80", "twice+0x80/0x100"),
            ("twice+0x8", "twice+0x8/0x10"),
            ("gone+0x8", "gone+0x8"),
            ("nfs_late+0x900 [nfs]", "nfs_late+0x900 [nfs]"),
            ("0xffffffff81000000", "0xffffffff81000000"),
            ("", ""),
        ];
        let (given, expected): (Vec<_>, Vec<_>) =
            cases.iter().map(|(given, expected)| ((*given).to_owned(), (*expected).to_owned())).unzip();
        assert_eq!(symbols.with_lengths(&given), expected);
    }
}
