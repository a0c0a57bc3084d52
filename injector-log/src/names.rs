//! Lists of function names: in one text, with blanks between them; `*` at the end of a name stands for anything.
//!
//! Names are compared without leading underscores, without `_noprof` (6.10 and later put it behind allocators) and without
//! the compiler's suffixes.

use super::frame;

/// A name without what differs from kernel to kernel.
pub(crate) fn stem(function: &str) -> &str {
    let function = frame::name(function).trim_start_matches('_');
    function.strip_suffix("_noprof").unwrap_or(function)
}

/// Whether a list has a name, given as its [`stem`].
pub(crate) fn has(names: &str, stem: &str) -> bool {
    names.split(' ').any(|name| match name.strip_suffix('*') {
        Some(start) => stem.starts_with(start),
        None => stem == name,
    })
}

/// That no list has a name twice, or one that never matches.
#[cfg(test)]
pub(crate) fn check<'a>(lists: impl Iterator<Item = &'a str>) {
    let mut seen = std::collections::HashSet::new();
    for name in lists.flat_map(|names| names.split(' ')) {
        assert!(!name.is_empty() && seen.insert(name), "{name} is there twice");
        assert!(!name.starts_with('_'), "{name} never matches");
        assert!(name.ends_with('*') || stem(name) == name, "{name} never matches");
    }
}
