//! Stack frames in the kernel's text: `func+0x12/0x34 [module]`, as `%pS` and `%pB` print them (lib/vsprintf.c).

use std::sync::LazyLock;

use regex::Regex;

/// A pattern of this crate; they are constants, and a test compiles each of them.
pub(super) fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of the oracle")
}

/// A frame of a stack: one line of a call trace.
///
/// 6.1's kmemleak puts a hashed address before it (`[<00000000deadbeef>] func+0x12/0x34`), lockdep a real one.
/// `scripts/decode_stacktrace.sh` puts the source line behind it. A symbol is a C name or has a suffix of the compiler.
static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^\s*(?:\[<[0-9a-fx]+>\]\s+)?(?<unsure>\? )?(?<symbol>[A-Za-z_$][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
});

/// The function of a call trace's line; none for one that the unwinder is not sure of (`? func+…`), or for no frame.
pub(super) fn function(line: &str) -> Option<&str> {
    let frame = FRAME.captures(line)?;
    if frame.name("unsure").is_some() {
        return None;
    }
    frame.name("symbol").map(|symbol| name(symbol.as_str()))
}

/// Whether a line is a frame, sure or not.
pub(super) fn is_frame(line: &str) -> bool {
    FRAME.is_match(line)
}

/// The name in the source: without what the compiler appends to its copies and parts (`.constprop.0`, `.isra.0`,
/// `.part.0`, `.cold`).
pub(super) fn name(symbol: &str) -> &str {
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
    fn a_leading_dot_is_no_suffix() {
        assert_eq!(name(".text"), ".text");
        assert_eq!(name("foo.part.0"), "foo");
    }
}
