//! Reads what Rust's test harness prints.

/// How many tests ended how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
    /// What the numbers don't say.
    pub note: Option<String>,
}

impl Tally {
    /// A check that is no test of the harness counts as one.
    pub fn of_check(good: bool) -> Self {
        Self { passed: u64::from(good), failed: u64::from(!good), ..Self::default() }
    }

    /// Sums all binaries in `text`. One that has no closing line died: then its tests' own lines count.
    pub fn read(text: &str) -> Self {
        let mut sum = Self::default();
        let mut open = Self::default();
        for line in text.lines() {
            if let Some(result) = line.strip_prefix("test result: ") {
                sum.passed += number_before(result, " passed");
                sum.failed += number_before(result, " failed");
                sum.ignored += number_before(result, " ignored");
                open = Self::default();
            } else if line.starts_with("running ") && line.trim_end().ends_with(['s', 't']) {
                open = Self::default();
            } else if line.starts_with("test ") {
                // Between the dots and the word there may be what the test printed.
                open.passed += u64::from(line.ends_with("ok"));
                open.failed += u64::from(line.ends_with("FAILED"));
            }
        }
        sum.passed += open.passed;
        sum.failed += open.failed;
        sum
    }

    /// Whether any test ran.
    pub fn ran(&self) -> bool {
        self.passed + self.failed > 0
    }
}

/// The tests that failed, by the harness' own list of them.
pub fn failed_names(text: &str) -> Vec<&str> {
    let lists = text.split("\nfailures:\n").skip(1);
    let names = lists.flat_map(|list| list.lines().map_while(|line| line.strip_prefix("    ")));
    names.filter(|name| !name.contains(char::is_whitespace)).collect()
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some((before, _)) = text.split_once(word) else {
        return 0;
    };
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_summed() {
        let text = "\
running 2 tests
test a ... ok
test b ... FAILED

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s

running 3 tests
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 12.10s
";
        assert_eq!(Tally::read(text), Tally { passed: 3, failed: 1, ignored: 1, note: None });
    }

    #[test]
    fn a_binary_that_died_counts_by_its_lines() {
        let text = "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ";
        assert_eq!(Tally::read(text), Tally { passed: 1, failed: 1, ignored: 0, note: None });
    }

    #[test]
    fn failed_tests_are_named() {
        let text = "\
test a ... ok
test b ... FAILED

failures:

---- b stdout ----
failures:
    not a list

thread 'b' panicked

failures:
    b
    c::d

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";
        assert_eq!(failed_names(text), ["b", "c::d"]);
        assert!(failed_names("test result: ok. 1 passed").is_empty());
    }

    #[test]
    fn no_test_is_no_test() {
        assert!(!Tally::read("error: could not compile").ran());
        assert!(Tally::of_check(false).ran());
    }
}
