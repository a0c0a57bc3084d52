//! Stack frames in the kernel's text: `func+0x12/0x34 [module]`, as `%pS` and `%pB` print them (lib/vsprintf.c).

use std::sync::LazyLock;

use regex::Regex;

/// A pattern of this crate; they are constants, and a test compiles each of them.
pub(crate) fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of the log's tables")
}

/// What may precede a symbol in a frame: the name of a stack with the time of the next record (4.x continued the line),
/// kmemleak's name, addresses in brackets (lockdep, kmemleak of 6.1, powerpc, s390).
macro_rules! before_symbol {
    () => {
        r"^(?:kmemleak: )?\s*(?:<[A-Z#0-9]+>\s+)?(?:\[ *\d+\.\d+\]\s+)?(?:\(?\[<?[0-9a-fx]+>?\]\s*)*"
    };
}

/// A frame of a stack: one line of a call trace.
///
/// `scripts/decode_stacktrace.sh` puts the source line behind it. A symbol is a C name or has a suffix of the compiler.
static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(before_symbol!(), r"(?<unsure>\? )?(?<symbol>[A-Za-z_$][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+"))
});

/// The same on 32-bit ARM (arch/arm/kernel/traps.c dump_backtrace_entry): `callee from caller+0x12/0x34`, before 6.1
/// `[<address>] (callee) from [<address>] (caller+0x12/0x34)`.
static FRAME_OF_ARM: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        before_symbol!(),
        r"\(?(?<symbol>[A-Za-z_$][\w.$]*)\)? from (?:\[<[0-9a-f]+>\] )?\(?[A-Za-z_$][\w.$]*\+0x[0-9a-f]+/0x[0-9a-f]+"
    ))
});

/// Where the CPU was: `RIP` on x86, `pc` on arm64, `PC is at` on ARM and SuperH, `epc` on RISC-V and MIPS, `NIP` on
/// powerpc, `era` on LoongArch, `Krnl PSW` on s390. What user space ran has no symbol.
static PLACE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:RIP:? (?:0010:)?|PC is at |pc : |e?pc\s*: (?:[0-9a-f]+ )?|NIP |pc : [0-9a-f]+ |era\s*: [0-9a-f]+ |Krnl PSW : [0-9a-f ]+\()(?:\[<?[0-9a-f]+>?\]\s*)*\(?(?<symbol>[A-Za-z_$][\w.$]*)\+0x",
    )
});

/// The function of a call trace's line; none for one that the unwinder is not sure of (`? func+…`), or for no frame.
pub(crate) fn function(line: &str) -> Option<&str> {
    // All forms have it; most lines of a log do not.
    if !line.contains("+0x") {
        return None;
    }
    let frame = FRAME.captures(line).or_else(|| FRAME_OF_ARM.captures(line))?;
    if frame.name("unsure").is_some() {
        return None;
    }
    frame.name("symbol").map(|symbol| name(symbol.as_str()))
}

/// The function in which the CPU was, from the registers' first line.
pub(crate) fn place(line: &str) -> Option<&str> {
    if !line.contains("+0x") {
        return None;
    }
    PLACE.captures(line)?.name("symbol").map(|symbol| name(symbol.as_str()))
}

/// Whether a line is a frame, sure or not.
pub(crate) fn is_frame(line: &str) -> bool {
    line.contains("+0x") && (FRAME.is_match(line) || FRAME_OF_ARM.is_match(line))
}

/// Whether a line is a call that the compiler inlined: `func fs/file.c:12 [inline]`, from `scripts/decode_stacktrace.sh`.
pub(crate) fn is_inlined(line: &str) -> bool {
    line.ends_with("[inline]")
}

/// The name in the source: without what the compiler appends to its copies and parts (`.constprop.0`, `.isra.0`,
/// `.part.0`, `.cold`).
pub(crate) fn name(symbol: &str) -> &str {
    match symbol.find('.') {
        Some(dot) if dot > 0 => &symbol[..dot],
        _ => symbol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_forms() {
        for (line, expected) in [
            (" dummy_warn+0x12/0x20 [dummy]", Some("dummy_warn")),
            ("dummy_warn+0x12/0x20", Some("dummy_warn")),
            ("    [<000000007a3f1c2d>] __kmem_cache_alloc_node+0x1e4/0x230", Some("__kmem_cache_alloc_node")),
            (" [<ffffffff8113c6a9>] foo.cold+0x1/0x2 [bar]", Some("foo")),
            (" foo.constprop.0.isra.0+0x1/0x2 [bar 0123456789abcdef]", Some("foo")),
            (" foo+0x1/0x2 (fs/nfs/nfs4proc.c:12) nfsv4", Some("foo")),
            ("  <IRQ> [   12.345678]  [<ffffffff81eb4be9>] foo+0x1/0x2", Some("foo")),
            ("[c00000007a3efa20] [c00000000030a060] foo+0x7b0/0x13a0", Some("foo")),
            ("([<0000000000112233>] foo+0x1/0x2)", Some("foo")),
            ("[<80c1eb20>] (foo) from [<80c1ec14>] (bar+0x60/0xdc)", Some("foo")),
            (" foo from bar+0x60/0xdc", Some("foo")),
            (" ? handle_mm_fault+0xbf/0x230", None),
            (" <TASK>", None),
            ("RIP: 0010:dummy_warn+0x12/0x20 [dummy]", None),
            (" 0xffffffffc0a01000", None),
            ("", None),
        ] {
            assert_eq!(function(line), expected, "{line}");
        }
        assert!(is_frame(" ? handle_mm_fault+0xbf/0x230"));
    }

    #[test]
    fn places_of_all_architectures() {
        for (line, expected) in [
            ("RIP: 0010:foo+0x12/0x20 [dummy]", Some("foo")),
            ("RIP: 0010:[<ffffffff8113c6a9>]  [<ffffffff8113c6a9>] foo+0x1/0x2", Some("foo")),
            ("pc : foo.part.0+0x18/0xb8", Some("foo")),
            ("PC is at foo+0xa0/0x74c", Some("foo")),
            ("epc : foo+0x18/0xb8", Some("foo")),
            ("epc   : 80112233 foo+0x18/0xb8", Some("foo")),
            ("NIP [c00000000022d79c] foo+0x1ac/0x5f0", Some("foo")),
            ("Krnl PSW : 0704c00180000000 000003ffe0c5e0f4 (foo+0x1/0x2)", Some("foo")),
            ("RIP: 0033:0x458021", None),
            ("pc : [<80c1ec14>]    lr : [<00000000>]    psr: 200d0013", None),
        ] {
            assert_eq!(place(line), expected, "{line}");
        }
    }

    #[test]
    fn a_leading_dot_is_no_suffix() {
        assert_eq!(name(".text"), ".text");
        assert_eq!(name("foo.part.0"), "foo");
    }
}
