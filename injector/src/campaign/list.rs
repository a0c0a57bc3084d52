//! Which workloads a campaign has: by name, by tag, or from a list in a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::foreign::Foreign;
use crate::plan::file::FileError;
use crate::plan::workload::{FILE, WorkloadFile, read_list};
use crate::workloads::{self, Catalogue, WorkloadsError};

/// What a list asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names or paths of workloads, or paths of lists.
    pub names: Vec<String>,
    /// Tags of workloads.
    pub tags: Vec<String>,
}

/// The workloads, each once, in the order in which they are asked for; those of a tag by name. Each comes with the word that
/// names it on a command line.
///
/// # Errors
/// There is no such workload, or a file is wrong.
pub fn find(wanted: &Wanted, catalogue: Option<&Path>) -> Result<Vec<(String, WorkloadFile)>, WorkloadsError> {
    let mut wanted = wanted.clone();
    let lists: Vec<String>;
    (lists, wanted.names) = wanted.names.into_iter().partition(|name| is_list(name));
    for list in lists {
        let path = Path::new(&list);
        let shown = Foreign::path(path).to_string();
        let failed = |error| FileError::Read { name: shown.clone(), error };
        let (names, tags) = read_list(&shown, &fs::read_to_string(path).map_err(failed)?)?;
        wanted.names.extend(names);
        wanted.tags.extend(tags);
    }
    let mut found = Vec::new();
    for name in wanted.names {
        let file = workloads::find(&name, catalogue)?;
        found.push((name, file));
    }
    for tag in wanted.tags {
        let tagged = Catalogue::find(catalogue)?.all(Some(&tag))?;
        found.extend(tagged.into_iter().map(|file| (file.name.clone(), file)));
    }
    let mut seen = BTreeSet::new();
    // The name is that of the journal.
    found.retain(|(_, file)| seen.insert(file.name.clone()));
    Ok(found)
}

/// Whether a word is the path of a list, and not of a workload: its file names workloads or tags.
fn is_list(word: &str) -> bool {
    let path = Path::new(word);
    let may_be = word.ends_with(".toml") && path.file_name().is_none_or(|name| name != FILE);
    may_be
        && fs::read_to_string(path).is_ok_and(|text| {
            let is_key =
                |line: &str, key: &str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
            text.lines().any(|line| is_key(line, "workloads")) || !text.lines().any(|line| is_key(line, "run"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, tags) in [("a", "[\"block\"]"), ("b", "[\"net\"]"), ("c", "[\"block\", \"net\"]")] {
            let text = format!("description = \"x\"\ntags = {tags}\nrun = \"true\"\n");
            fs::write(directory.path().join(format!("{name}.toml")), text).unwrap();
        }
        directory
    }

    fn names(wanted: &Wanted, directory: &tempfile::TempDir) -> Result<Vec<String>, String> {
        let found = find(wanted, Some(directory.path())).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|(_, file)| file.name).collect())
    }

    #[test]
    fn names_and_tags_and_each_workload_once() {
        let directory = catalogue();
        let wanted = |names: &[&str], tags: &[&str]| Wanted {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        assert_eq!(names(&wanted(&["c"], &["block"]), &directory).unwrap(), ["c", "a"]);
        assert_eq!(names(&wanted(&[], &["block", "net"]), &directory).unwrap(), ["a", "c", "b"]);
        assert!(names(&wanted(&["x"], &[]), &directory).unwrap_err().contains("no workload `x`"));
        assert!(names(&wanted(&[], &["x"]), &directory).unwrap_err().contains("tags are: block, net"));
    }

    #[test]
    fn a_file_can_list_them() {
        let (directory, other) = (catalogue(), tempfile::tempdir().unwrap());
        let list = other.path().join("mine.toml");
        let wanted = Wanted { names: vec![list.to_string_lossy().into_owned()], tags: Vec::new() };
        fs::write(&list, "workloads = [\"b\"]\ntags = \"block\"\n").unwrap();
        assert_eq!(names(&wanted, &directory).unwrap(), ["b", "a", "c"]);
        fs::write(&list, "workloads = [\"b\"]\ntag = \"block\"\n").unwrap();
        let error = names(&wanted, &directory).unwrap_err();
        assert!(error.contains("mine.toml:2:1") && error.contains("did you mean `tags`?"), "{error}");
        fs::write(&list, "\n").unwrap();
        assert!(names(&wanted, &directory).unwrap_err().contains("names no workload"));
        // A workload's own file is none.
        fs::write(&list, "description = \"x\"\nrun = \"true\"\n").unwrap();
        assert_eq!(names(&wanted, &directory).unwrap(), ["mine"]);
    }
}
