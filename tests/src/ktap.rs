//! Reads KTAP (Documentation/dev-tools/ktap.rst), strictly: what is nested by indentation, and what kselftest's runner nests in
//! comments.

/// The tests of a document.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ktap {
    /// How many tests the plan has, if there is one.
    pub plan: Option<usize>,
    /// Why none was run.
    pub skip: Option<String>,
    /// The tests.
    pub tests: Vec<Test>,
}

/// One test.
#[derive(Debug, PartialEq, Eq)]
pub struct Test {
    /// Whether it passed, or need not.
    pub ok: bool,
    /// Its name.
    pub name: String,
    /// `SKIP`, `XFAIL`… with what follows; empty if there is none.
    pub directive: String,
    /// What it consists of.
    pub inside: Option<Ktap>,
}

/// Reads a document.
///
/// # Errors
/// With the line that is wrong.
pub fn parse(text: &str) -> Result<Ktap, String> {
    document(&text.lines().collect::<Vec<_>>())
}

fn document(lines: &[&str]) -> Result<Ktap, String> {
    let mut lines = lines.iter();
    match lines.next() {
        Some(&("KTAP version 1" | "TAP version 13")) => {}
        first => return Err(format!("no version: {first:?}")),
    }
    let mut ktap = Ktap::default();
    let (mut indented, mut comments) = (Vec::new(), Vec::new());
    for &line in lines {
        if let Some(nested) = line.strip_prefix("  ") {
            indented.push(nested);
        } else if let Some(comment) = line.strip_prefix('#') {
            comments.push(comment.strip_prefix(' ').unwrap_or(comment));
        } else if let Some(plan) = line.strip_prefix("1..") {
            let (count, directive) = split(plan);
            ktap.plan = Some(count.parse().map_err(|_| format!("no plan: {line}"))?);
            ktap.skip = directive.strip_prefix("SKIP").map(|reason| reason.trim().to_owned());
        } else {
            let mut test = result(line, ktap.tests.len() + 1)?;
            let nested = comments.iter().position(|comment| comment.starts_with("KTAP version"));
            test.inside = match nested {
                _ if !indented.is_empty() => Some(document(&indented)?),
                Some(at) => Some(document(&comments[at..])?),
                None => None,
            };
            indented.clear();
            comments.clear();
            ktap.tests.push(test);
        }
    }
    let Ktap { plan, tests, .. } = &ktap;
    if plan.is_some_and(|plan| plan != tests.len()) || (plan.is_none() && !tests.is_empty()) {
        return Err(format!("the plan is {plan:?}, and there are {} tests", tests.len()));
    }
    if !indented.is_empty() {
        return Err(format!("tests that are part of none: {indented:?}"));
    }
    Ok(ktap)
}

fn result(line: &str, number: usize) -> Result<Test, String> {
    let (ok, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(format!("not KTAP: {line}")),
    };
    let rest = rest.strip_prefix(&format!("{number} ")).ok_or_else(|| format!("not test {number}: {line}"))?;
    let (name, directive) = split(rest);
    Ok(Test { ok, name: name.to_owned(), directive: directive.to_owned(), inside: None })
}

fn split(text: &str) -> (&str, &str) {
    let (text, directive) = text.split_once('#').unwrap_or((text, ""));
    (text.trim(), directive.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runner_prints() {
        let text = "TAP version 13\n1..2\n# timeout set to 600\n# selftests: injector: check.sh\n# KTAP version 1\n# 1..1\n# # ok\n\
                    # ok 1 all\nok 1 selftests: injector: check.sh\n# KTAP version 1\n# 1..0 # SKIP no BTF\n\
                    ok 2 selftests: injector: count.sh # SKIP\n# Totals: pass:1\n";
        let ktap = parse(text).unwrap();
        let inside = |at: usize| ktap.tests[at].inside.as_ref().unwrap();
        assert_eq!((inside(0).tests[0].name.as_str(), inside(0).tests[0].ok), ("all", true));
        assert_eq!((ktap.tests[1].directive.as_str(), inside(1).skip.as_deref()), ("SKIP", Some("no BTF")));
    }

    #[test]
    fn nested_by_indentation() {
        let text = "KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: a\n  1..1\n  not ok 1 b c\nnot ok 1 a\n";
        let ktap = parse(text).unwrap();
        assert_eq!((ktap.tests[0].ok, ktap.tests[0].inside.as_ref().unwrap().tests[0].name.as_str()), (false, "b c"));
    }

    #[test]
    fn mistakes_are_told() {
        for text in
            ["", "1..1\n", "KTAP version 1\n1..2\nok 1 a\n", "KTAP version 1\n1..1\nok 2 a\n", "KTAP version 1\nx\n"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
