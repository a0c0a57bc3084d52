//! Kernel configuration: a fragment is read, and compared with the configuration that the kernel made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A file of the user's with options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The path as it was given.
    pub name: String,
    pub text: String,
}

impl Fragment {
    /// Reads `path`. Each line must be an option or a comment.
    pub fn read(path: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"))?;
        Self::new(path, text)
    }

    fn new(name: &str, text: String) -> Result<Self, String> {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') && option(line).is_none() {
                let number = number + 1;
                return Err(format!("{name}:{number}: {line}: neither CONFIG_NAME=VALUE nor a comment"));
            }
        }
        if options(&text).is_empty() {
            return Err(format!("{name}: no CONFIG_NAME=VALUE in it"));
        }
        Ok(Self { name: name.to_owned(), text })
    }
}

/// The option that a line sets, and its value; `n` for `# CONFIG_NAME is not set`.
fn option(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (name, value) = match line.strip_prefix("# ") {
        Some(comment) => (comment.strip_suffix(" is not set")?, "n"),
        None => line.split_once('=')?,
    };
    let letters = name.strip_prefix("CONFIG_")?;
    let valid = !letters.is_empty() && letters.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (valid && !value.is_empty()).then_some((name, value))
}

/// All options that a text sets; of two lines with the same name the last one counts, as for kconfig.
fn options(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(option).collect()
}

/// An option that the kernel's configuration has with another value than the fragment.
#[derive(Debug, PartialEq, Eq)]
pub struct NotTaken {
    name: String,
    wanted: String,
    /// In the kernel's configuration.
    found: String,
    /// Whether the kernel's source has it.
    known: bool,
}

impl NotTaken {
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, wanted, found, known } = self;
        let why = match (known, found.as_str()) {
            (false, _) => "this kernel has no such option".to_owned(),
            (true, "n") => "an option that it depends on is off".to_owned(),
            (true, found) => format!("it is {found} in this kernel"),
        };
        write!(f, "{name}={wanted} ({why})")
    }
}

/// What of `wanted` is not so in `config`, a kernel's `.config`. `known`: the names in the kernel's Kconfig files.
pub fn not_taken(wanted: &str, config: &str, known: &BTreeSet<String>) -> Vec<NotTaken> {
    let config = options(config);
    let found = |name: &str| config.get(name).copied().unwrap_or("n");
    let differ = options(wanted).into_iter().filter(|(name, value)| found(name) != *value);
    differ
        .map(|(name, value)| NotTaken {
            name: name.to_owned(),
            wanted: value.to_owned(),
            found: found(name).to_owned(),
            known: known.contains(name),
        })
        .collect()
}

/// The names of all options in the Kconfig files of the source below `tree`.
pub fn known_options(tree: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("can't read {}", directory.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if entry.file_name().to_string_lossy().starts_with("Kconfig") {
                let text = fs::read(entry.path()).with_context(|| format!("can't read {}", entry.path().display()))?;
                names.extend(declared(&String::from_utf8_lossy(&text)));
            }
        }
    }
    Ok(names)
}

/// The options that a Kconfig file declares.
fn declared(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let declares = matches!(words.next(), Some("config" | "menuconfig"));
        words.next().filter(|_| declares).map(|name| format!("CONFIG_{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_options_and_comments() {
        let good = "# why\n\nCONFIG_A=y\nCONFIG_B=\"a b\"\n# CONFIG_C is not set\n";
        let fragment = Fragment::new("f", good.to_owned()).unwrap();
        assert_eq!(options(&fragment.text), [("CONFIG_A", "y"), ("CONFIG_B", "\"a b\""), ("CONFIG_C", "n")].into());
        for bad in ["CONFIG_A", "A=y", "CONFIG_=y", "CONFIG_A=", "CONFIG_A B=y", "\u{7f}ELF"] {
            let error = Fragment::new("f", format!("\n{bad}\n")).unwrap_err();
            assert!(error.starts_with("f:2: "), "{bad}: {error}");
        }
        assert!(Fragment::new("f", "# nothing\n".to_owned()).unwrap_err().contains("no CONFIG_NAME"));
        assert!(Fragment::read("/nonexistent").unwrap_err().starts_with("can't read /nonexistent: "));
    }

    #[test]
    fn the_last_line_counts() {
        assert!(not_taken("CONFIG_A=y\nCONFIG_A=n\n", "# CONFIG_A is not set\n", &BTreeSet::new()).is_empty());
    }

    #[test]
    fn each_option_that_is_not_taken_has_its_reason() {
        let known = declared("config A\nmenuconfig B\n\tbool \"x\"\nconfig C\n config D\n# config E\n").collect();
        let wanted = "CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=y\nCONFIG_D=n\nCONFIG_E=y\nCONFIG_F=n\n";
        let found = not_taken(wanted, "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=y\n", &known);
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "CONFIG_B=m (it is y in this kernel)",
                "CONFIG_C=y (an option that it depends on is off)",
                "CONFIG_D=n (it is y in this kernel)",
                "CONFIG_E=y (this kernel has no such option)",
            ]
        );
    }
}
