//! Globs over names, compiled: the hook follows a table, one step a byte, whatever the globs were and however many.

/// How many states an automaton can have. A power of two.
pub const MAX_STATES: usize = 256;
/// The state that no name comes out of.
pub const DEAD: u8 = 0;

/// A deterministic automaton over bytes. A name is accepted if the state after its last byte, its NUL left out, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Automaton {
    /// By state and byte: the next state.
    pub next: [[u8; 256]; MAX_STATES],
    /// By state: 1 when a name may end there.
    pub accepts: [u8; MAX_STATES],
    /// Where a name begins.
    pub start: u8,
    /// Explicit padding.
    pub _pad: [u8; 7],
}

impl Automaton {
    /// Accepts nothing.
    pub const NONE: Self =
        Self { next: [[DEAD; 256]; MAX_STATES], accepts: [0; MAX_STATES], start: DEAD, _pad: [0; 7] };

    /// Whether it accepts a name that ends with its first NUL, or with the array.
    #[must_use]
    #[inline(always)]
    pub fn accepts<const N: usize>(&self, name: &[u8; N]) -> bool {
        let mut state = self.start as usize & (MAX_STATES - 1);
        let mut i = 0;
        while i < N {
            if name[i] == 0 {
                break;
            }
            state = self.next[state][name[i] as usize] as usize & (MAX_STATES - 1);
            i += 1;
        }
        self.accepts[state] != 0
    }
}

const _: () = {
    assert!(size_of::<Automaton>() == 256 * MAX_STATES + MAX_STATES + 8);
    assert!(MAX_STATES.is_power_of_two() && MAX_STATES <= 256);
};

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, no padding that is not a field (asserted above), any bit pattern is valid.
unsafe impl aya::Pod for Automaton {}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a*`
    fn begins_with_a() -> Automaton {
        let mut automaton = Automaton { start: 1, ..Automaton::NONE };
        automaton.next[1][usize::from(b'a')] = 2;
        automaton.next[2] = [2; 256];
        automaton.accepts[2] = 1;
        automaton
    }

    #[test]
    fn names() {
        let automaton = begins_with_a();
        assert!(automaton.accepts(b"abc\0"));
        assert!(automaton.accepts(b"a\0b"), "what stands behind the NUL is not the name's");
        assert!(automaton.accepts(b"abcd"), "a name without an end is cut");
        assert!(!automaton.accepts(b"ba\0"));
        assert!(!automaton.accepts(b"\0a"));
        assert!(!Automaton::NONE.accepts(b"a\0"));
    }
}
