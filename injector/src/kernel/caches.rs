//! Slab caches by name: `/sys/kernel/slab`, and `/proc/slabinfo`.
//!
//! The kernel merges caches that are alike: there is one cache then, and its `kmem_cache.name` is the name that it was first
//! created with. In sysfs it is a directory with a made-up name (`:0000064`), and all of its names are links to that, also the
//! first, also those whose owner is gone again (`sysfs_slab_add` and `sysfs_slab_alias`, mm/slub.c, 6.12). A cache that can't
//! be merged is a directory with its own name. `/proc/slabinfo` has only the first names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{KernelError, KernelFiles};
use crate::plan::{CachePattern, suggest};

const DIRECTORY: &str = "sys/kernel/slab";
const TABLE: &str = "proc/slabinfo";
/// How many names an explanation lists.
const LISTED: usize = 6;

/// The kernel's slab caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caches {
    caches: Vec<Cache>,
    /// Merged caches' other names are among them.
    aliases: bool,
}

/// One cache with all of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cache {
    /// The directory's name, where it is made up.
    id: Option<String>,
    names: Vec<String>,
    /// The one that the kernel kept, where slabinfo tells. (More only if a name was given twice.)
    first: Vec<String>,
}

/// The caches that patterns mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheChoice {
    /// What `kmem_cache.name` of each of them is; for a merged cache of which nothing tells which name was the first, all
    /// that it can be.
    pub names: Vec<String>,
    /// Caches that were asked for by one name and have others that were not.
    pub merged: Vec<Merged>,
    /// Nothing here tells which caches there are, so there are no names.
    pub unchecked: bool,
}

/// A cache that was asked for by one of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The name that was asked for; of several the first in the alphabet.
    pub asked: String,
    /// Those that were not.
    pub others: Vec<String>,
    /// What the kernel calls it, and so do events; `None`: one of those above.
    pub first: Option<String>,
}

/// A pattern that means no cache.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("--cache {pattern}: the kernel has no such slab cache{}{}", if *.aliases { "" } else { " in /proc/slabinfo (merged caches have only their first name there)" }, suggest::did_you_mean(.close))]
pub struct NoSuchCache {
    /// The pattern.
    pub pattern: String,
    /// Whether all names of merged caches were known.
    pub aliases: bool,
    /// Names that look like it.
    pub close: Vec<String>,
}

impl Caches {
    /// Reads them; where the kernel does not tell, there are none.
    ///
    /// # Errors
    /// What tells is there but can't be read.
    pub fn read(files: &KernelFiles) -> Result<Self, KernelError> {
        let mut by_directory: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let aliases = files.exists(DIRECTORY);
        if aliases {
            let path = files.path(DIRECTORY);
            let unreadable = |error| KernelError::File { path: path.clone(), error };
            for entry in fs::read_dir(&path).map_err(unreadable)? {
                let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
                let target = files.link(format!("{DIRECTORY}/{name}"));
                let target = target.as_deref().and_then(|target| Path::new(target).file_name());
                match target {
                    Some(target) => by_directory.entry(target.to_string_lossy().into_owned()).or_default().push(name),
                    None if name.starts_with(':') => drop(by_directory.entry(name).or_default()),
                    None => by_directory.entry(name.clone()).or_default().push(name),
                }
            }
        }
        let mut caches: Vec<Cache> = by_directory.into_iter().map(|(id, names)| cache(id, names)).collect();
        // What sysfs has no place for, it leaves out.
        let first_names = files.read_text(TABLE).map(|text| slabinfo(&text)).unwrap_or_default();
        for name in first_names {
            match caches.iter_mut().find(|cache| cache.names.contains(&name)) {
                Some(cache) => cache.first.push(name),
                None => caches.push(Cache { id: None, names: vec![name.clone()], first: vec![name] }),
            }
        }
        caches.retain(|cache| !cache.names.is_empty());
        Ok(Self { caches, aliases })
    }

    /// Whether the kernel tells which there are.
    #[must_use]
    pub fn are_known(&self) -> bool {
        !self.caches.is_empty()
    }

    /// The caches that any of the patterns means.
    ///
    /// # Errors
    /// A pattern means none.
    pub fn matching(&self, patterns: &[CachePattern]) -> Result<CacheChoice, NoSuchCache> {
        if !self.are_known() {
            return Ok(CacheChoice { unchecked: true, ..CacheChoice::default() });
        }
        if let Some(pattern) = patterns.iter().find(|pattern| !self.caches.iter().any(|cache| cache.is_meant(pattern)))
        {
            return Err(self.no_match(pattern));
        }
        let mut choice = CacheChoice::default();
        for cache in self.caches.iter().filter(|cache| patterns.iter().any(|pattern| cache.is_meant(pattern))) {
            let names = if cache.first.is_empty() { &cache.names } else { &cache.first };
            choice.names.extend(names.iter().cloned());
            // By its made-up name, all of it is meant.
            if cache.id.as_ref().is_some_and(|id| patterns.iter().any(|pattern| pattern.matches(id))) {
                continue;
            }
            let (asked, others): (Vec<&String>, Vec<&String>) =
                cache.names.iter().partition(|name| patterns.iter().any(|pattern| pattern.matches(name)));
            if let (Some(asked), false) = (asked.first(), others.is_empty()) {
                let (asked, others) = ((*asked).clone(), others.into_iter().cloned().collect());
                choice.merged.push(Merged { asked, others, first: cache.first.first().cloned() });
            }
        }
        Ok(choice)
    }

    fn no_match(&self, pattern: &CachePattern) -> NoSuchCache {
        let names = self.caches.iter().flat_map(|cache| &cache.names).map(String::as_str);
        let close = suggest::close(pattern.as_str(), names, 3).into_iter().map(str::to_owned).collect();
        NoSuchCache { pattern: pattern.as_str().to_owned(), aliases: self.aliases, close }
    }
}

fn cache(id: String, mut names: Vec<String>) -> Cache {
    names.sort_unstable();
    Cache { id: id.starts_with(':').then_some(id), names, first: Vec::new() }
}

/// Lines are `dentry  4389 4410 192 21 1 : tunables …`, after two lines of heading. Names with blanks in them are bad style, not
/// forbidden.
fn slabinfo(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let (cache, _) = line.split_once(" : tunables")?;
        let words: Vec<&str> = cache.split_ascii_whitespace().collect();
        let name = words.get(..words.len().checked_sub(5)?)?;
        (!name.is_empty() && !line.starts_with('#')).then(|| name.join(" "))
    };
    text.lines().filter_map(name).collect()
}

impl Cache {
    fn is_meant(&self, pattern: &CachePattern) -> bool {
        self.names.iter().chain(&self.id).any(|name| pattern.matches(name))
    }
}

impl CacheChoice {
    /// The names that the patterns themselves don't match.
    #[must_use]
    pub fn beyond(&self, patterns: &[CachePattern]) -> Vec<&str> {
        let names = self.names.iter().map(String::as_str);
        names.filter(|name| !patterns.iter().any(|pattern| pattern.matches(name))).collect()
    }

    /// What the user must know about the choice: a line for each merged cache, and one where nothing could be checked.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let Self { names: _, merged, unchecked } = self;
        let merged = merged.iter().map(|Merged { asked, others, first }| {
            let more = others.len().saturating_sub(LISTED);
            let shown = others[..others.len() - more].join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let called = first.as_ref().filter(|first| *first != asked);
            let called = called.map(|first| format!(", and all are called {first} in events")).unwrap_or_default();
            format!(
                "cache {asked} is merged with {shown}{more}: their allocations fail too{called}; boot with slab_nomerge to tell them apart"
            )
        });
        let unchecked = unchecked.then(|| {
            "neither /sys/kernel/slab nor /proc/slabinfo is there: whether the caches that --cache names are there can't be \
             told, and merged caches are found only by their first name"
                .to_owned()
        });
        merged.chain(unchecked).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn patterns(texts: &[&str]) -> Vec<CachePattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    /// Two merged names, a third that shares with nobody though it could, and one that can't be merged.
    fn kernel(sysfs: bool, slabinfo: bool) -> TempDir {
        let root = tempfile::tempdir().expect("a directory");
        if sysfs {
            let slab = root.path().join(DIRECTORY);
            for directory in [":0000064", ":a-0000104", "dentry"] {
                fs::create_dir_all(slab.join(directory)).expect("writable");
            }
            for (name, directory) in
                [("nfs_page", ":0000064"), ("fsnotify_mark", ":0000064"), ("buffer_head", ":a-0000104")]
            {
                symlink(directory, slab.join(name)).expect("writable");
            }
        }
        if slabinfo {
            let table = "slabinfo - version: 2.1\n# name <active_objs> … : tunables <limit> …\n\
                fsnotify_mark 0 0 64 64 1 : tunables 0 0 0 : slabdata 0 0 0\n\
                dentry 1 2 192 21 1 : tunables 0 0 0 : slabdata 1 1 0\n\
                a/b 1 2 192 21 1 : tunables 0 0 0 : slabdata 1 1 0\n";
            fs::create_dir_all(root.path().join("proc")).expect("writable");
            fs::write(root.path().join(TABLE), table).expect("writable");
        }
        root
    }

    fn choose(root: &TempDir, texts: &[&str]) -> Result<CacheChoice, String> {
        let caches = Caches::read(&KernelFiles::new(root.path())).expect("readable");
        caches.matching(&patterns(texts)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_merged_cache_is_looked_for_by_its_first_name() {
        let root = kernel(true, true);
        let choice = choose(&root, &["nfs_page"]).expect("there");
        assert_eq!(choice.names, ["fsnotify_mark"]);
        assert_eq!(choice.beyond(&patterns(&["nfs_page"])), ["fsnotify_mark"]);
        assert!(choice.beyond(&patterns(&["f*"])).is_empty());
        assert_eq!(
            choice.notes(),
            [
                "cache nfs_page is merged with fsnotify_mark: their allocations fail too, and all are called fsnotify_mark in events; boot with slab_nomerge to tell them apart"
            ]
        );
        let choice = choose(&root, &["fsnotify_mark"]).expect("there");
        assert_eq!(
            choice.notes(),
            [
                "cache fsnotify_mark is merged with nfs_page: their allocations fail too; boot with slab_nomerge to tell them apart"
            ]
        );
    }

    #[test]
    fn where_the_first_name_is_not_known_it_may_be_any() {
        let root = kernel(true, false);
        assert_eq!(choose(&root, &["nfs_page"]).expect("there").names, ["fsnotify_mark", "nfs_page"]);
        for (asked, names) in [
            (&["dentry"][..], &["dentry"][..]),
            (&["buffer_head"], &["buffer_head"]),
            (&["nfs_*", "fsnotify_*"], &["fsnotify_mark", "nfs_page"]),
            (&[":0000064"], &["fsnotify_mark", "nfs_page"]),
        ] {
            let choice = choose(&root, asked).expect("there");
            assert_eq!(
                (choice.names, choice.merged.len()),
                (names.iter().map(|n| (*n).to_owned()).collect(), 0),
                "{asked:?}"
            );
        }
    }

    #[test]
    fn what_sysfs_leaves_out_is_in_slabinfo() {
        assert_eq!(choose(&kernel(true, true), &["a/*"]).expect("there").names, ["a/b"]);
    }

    #[test]
    fn without_sysfs_the_first_names_are_known() {
        let root = kernel(false, true);
        assert_eq!(choose(&root, &["f*", "dentry"]).expect("there").names, ["fsnotify_mark", "dentry"]);
        assert_eq!(
            choose(&root, &["nfs_page"]).expect_err("not there"),
            "--cache nfs_page: the kernel has no such slab cache in /proc/slabinfo (merged caches have only their first name there)"
        );
    }

    #[test]
    fn without_anything_nothing_is_refused() {
        let root = kernel(false, false);
        let choice = choose(&root, &["dentry", "nfs_*"]).expect("taken");
        assert_eq!((choice.names.len(), choice.notes().len(), choice.unchecked), (0, 1, true));
    }

    #[test]
    fn misspelt() {
        assert_eq!(
            choose(&kernel(true, false), &["dentry", "nfs_pages"]).expect_err("not there"),
            "--cache nfs_pages: the kernel has no such slab cache; did you mean nfs_page?"
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let others = (0..9).map(|i| format!("c{i}")).collect();
        let merged = vec![Merged { asked: "a".to_owned(), others, first: None }];
        let choice = CacheChoice { merged, ..CacheChoice::default() };
        assert!(choice.notes()[0].starts_with("cache a is merged with c0, c1, c2, c3, c4, c5 and 3 more: "));
    }

    proptest! {
        #[test]
        fn any_table_can_be_read(text in "([a-z_0-9 #:-]{0,20}( : tunables)?\\n){0,6}|\\PC*") {
            prop_assert!(slabinfo(&text).iter().all(|name| !name.is_empty()));
        }
    }
}
