//! Globs over names, as the automaton that the hook follows.

use std::collections::{BTreeMap, BTreeSet};

use injector_common::automaton::{Automaton, DEAD, MAX_STATES};

use crate::plan::{Glob, glob::Token};

/// Too many globs, or too intricate ones.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the {what} patterns are too many or too intricate: together they have more than {MAX_STATES} states; use fewer or shorter ones"
)]
pub struct TooIntricate {
    /// Which patterns: `--comm`, `--cache`.
    pub what: &'static str,
}

/// Where a name may be in the globs: of each, the tokens that may come next.
type Places = BTreeSet<(usize, usize)>;

/// Compiles globs; a name is accepted if some glob accepts it.
///
/// # Errors
/// The automaton would have too many states.
pub fn automaton(globs: &[&Glob], what: &'static str) -> Result<Automaton, TooIntricate> {
    let start: Places = globs.iter().enumerate().flat_map(|(glob, _)| reach(globs, glob, 0)).collect();
    let mut automaton = Automaton { start: DEAD + 1, ..Automaton::NONE };
    // What is nowhere in any glob is lost.
    let mut states = BTreeMap::from([(Places::new(), DEAD), (start.clone(), DEAD + 1)]);
    let mut todo = vec![start];
    while let Some(places) = todo.pop() {
        let state = usize::from(states[&places]);
        automaton.accepts[state] = u8::from(places.iter().any(|(glob, token)| *token == globs[*glob].tokens.len()));
        for byte in 1..=u8::MAX {
            let next = step(globs, &places, byte);
            let number = match states.get(&next) {
                Some(number) => *number,
                None => {
                    let number = u8::try_from(states.len()).ok().filter(|number| usize::from(*number) < MAX_STATES);
                    let number = number.ok_or(TooIntricate { what })?;
                    states.insert(next.clone(), number);
                    todo.push(next);
                    number
                }
            };
            automaton.next[state][usize::from(byte)] = number;
        }
    }
    Ok(automaton)
}

fn step(globs: &[&Glob], places: &Places, byte: u8) -> Places {
    let next = places.iter().flat_map(|&(glob, token)| match globs[glob].tokens.get(token) {
        Some(Token::AnyBytes) => reach(globs, glob, token),
        Some(wanted) if wanted.matches(byte) => reach(globs, glob, token + 1),
        _ => Vec::new(),
    });
    next.collect()
}

/// A place, and those that a `*` lets a name be in as well.
fn reach(globs: &[&Glob], glob: usize, token: usize) -> Vec<(usize, usize)> {
    let stars = globs[glob].tokens[token..].iter().take_while(|token| **token == Token::AnyBytes).count();
    (token..=token + stars).map(|token| (glob, token)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn padded(name: &str) -> [u8; 16] {
        let mut padded = [0; 16];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        padded
    }

    #[test]
    fn several_globs() {
        let globs = ["kworker/*", "jbd2*", "mount"].map(|glob| Glob::new(glob).unwrap());
        let automaton = automaton(&globs.each_ref(), "--comm").unwrap();
        for yes in ["kworker/", "kworker/u8:1", "jbd2", "jbd2/loop0-8", "mount"] {
            assert!(automaton.accepts(&padded(yes)), "{yes}");
        }
        for no in ["", "kworker", "mounts", "moun", "xjbd2"] {
            assert!(!automaton.accepts(&padded(no)), "{no}");
        }
    }

    #[test]
    fn too_intricate() {
        let glob = Glob::new("*a????????????").unwrap();
        assert_eq!(automaton(&[&glob], "--comm"), Err(TooIntricate { what: "--comm" }));
    }

    proptest! {
        #[test]
        fn accepts_what_the_globs_do(
            globs in proptest::collection::vec("[ab*?]{0,5}|[ab]{0,2}\\[[!]?[a-b]\\]\\*?", 1..4),
            names in proptest::collection::vec("[abc]{0,7}", 20),
        ) {
            let globs: Vec<Glob> = globs.iter().map(|glob| Glob::new(glob).unwrap()).collect();
            let Ok(automaton) = automaton(&globs.iter().collect::<Vec<_>>(), "--comm") else { return Ok(()) };
            for name in names {
                let expected = globs.iter().any(|glob| glob.matches(&name));
                prop_assert_eq!(automaton.accepts(&padded(&name)), expected, "{}", name);
            }
        }
    }
}
