//! Close names for a misspelt one.

/// Up to `n` candidates that look like `word`, closest first.
pub(crate) fn close<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, n: usize) -> Vec<&'a str> {
    // To compare takes time with the square of the length, and nothing that long is a slip.
    if word.len() > LONGEST {
        return Vec::new();
    }
    let word = word.to_ascii_uppercase();
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| (likeness(&word, &candidate.to_ascii_uppercase()), candidate))
        .filter(|(score, _)| *score > ENOUGH)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.truncate(n);
    scored.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Kernel symbols have at most 511 bytes; those that people write are shorter.
const LONGEST: usize = 128;

const ENOUGH: f64 = 0.78;

/// How alike two words are, at most 1.
fn likeness(word: &str, candidate: &str) -> f64 {
    let likeness = strsim::jaro_winkler(word, candidate);
    // In short words it does not see that two letters changed places.
    let slip =
        likeness <= ENOUGH && word.len() > 1 && candidate.len() > 2 && strsim::osa_distance(word, candidate) == 1;
    if slip { ENOUGH + 0.01 } else { likeness }
}

/// `; did you mean A, B?`, to end a message with; nothing when nothing is close.
pub(crate) fn did_you_mean<S: AsRef<str>>(close: &[S]) -> String {
    if close.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = close.iter().map(AsRef::as_ref).collect();
    format!("; did you mean {}?", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_close_to_what_is_too_long() {
        assert_eq!(close("NOFSS", ["NOFS", "NOIO"], 1), ["NOFS"]);
        let long = "N".repeat(LONGEST + 1);
        assert!(close(&long, [long.as_str()], 1).is_empty());
    }
}
