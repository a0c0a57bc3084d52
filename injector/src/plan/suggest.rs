//! Close names for a misspelt one.

/// Up to `n` candidates that look like `word`, closest first.
pub(crate) fn close<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, n: usize) -> Vec<&'a str> {
    let word = word.to_ascii_uppercase();
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_ascii_uppercase()), candidate))
        .filter(|(score, _)| *score > 0.78)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.truncate(n);
    scored.into_iter().map(|(_, candidate)| candidate).collect()
}

/// `; did you mean A, B?`, to end a message with; nothing when nothing is close.
pub(crate) fn did_you_mean<S: AsRef<str>>(close: &[S]) -> String {
    if close.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = close.iter().map(AsRef::as_ref).collect();
    format!("; did you mean {}?", names.join(", "))
}
