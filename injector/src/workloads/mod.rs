//! The catalogue of workloads: where it is, what is in it, and what of it can't run here.

pub mod list;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use injector_guest::root::find_program;

use crate::exit::{ExitCode, HasExitCode};
use crate::foreign::Foreign;
use crate::plan::file::FileError;
use crate::plan::suggest;
use crate::plan::workload::{FILE, WorkloadFile};

/// Names the catalogue, unless the option does.
pub const VARIABLE: &str = "INJECTOR_WORKLOADS";

/// The catalogue beside what is installed, below a prefix.
const SHARED: &str = "share/injector/workloads";

/// Where packages install it.
const INSTALLED: &str = "/usr/share/injector/workloads";

/// The directory in a checkout.
const IN_CHECKOUT: &str = "workloads";

/// What tells a checkout from any directory with workloads.
const CHECKOUT: &str = "injector/Cargo.toml";

/// A catalogue or a workload that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadsError {
    /// Nobody knows where workloads are.
    #[error("there is no catalogue of workloads in {}; name its directory: --workloads DIR", places(.0))]
    NoCatalogue(Vec<PathBuf>),
    /// The directory that was named can't be read.
    #[error("the catalogue of workloads {path}: {error}")]
    Unreadable {
        /// The directory.
        path: Foreign,
        /// Why.
        error: io::Error,
    },
    /// There is no such workload.
    #[error("there is no workload `{name}` in {catalogue}{close}; injector workloads lists them")]
    Unknown {
        /// What was asked for.
        name: Foreign,
        /// Where.
        catalogue: Foreign,
        /// What is called like it.
        close: String,
    },
    /// No workload has the tag.
    #[error("no workload in {catalogue} has the tag `{tag}`; tags are: {tags}")]
    UnknownTag {
        /// What was asked for.
        tag: Foreign,
        /// Where.
        catalogue: Foreign,
        /// Those that there are.
        tags: String,
    },
    /// Two files describe workloads of the same name.
    #[error("{catalogue} has two workloads `{name}`: {name}.toml and {name}/workload.toml; remove one")]
    Twice {
        /// The name.
        name: Foreign,
        /// Where.
        catalogue: Foreign,
    },
    /// Its file is no workload's.
    #[error(transparent)]
    File(#[from] FileError),
    /// This machine lacks programs.
    #[error("{0}")]
    Missing(Missing),
}

impl HasExitCode for WorkloadsError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Missing(_) => ExitCode::MISSING,
            _ => ExitCode::USAGE,
        }
    }
}

fn places(all: &[PathBuf]) -> String {
    all.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Programs that a workload needs and this machine lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The workload.
    pub name: String,
    /// The programs.
    pub programs: Vec<String>,
    /// Debian's packages of the workload.
    pub packages: Vec<String>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, programs, packages } = self;
        write!(f, "the workload {name} needs programs that this machine lacks: {}", programs.join(", "))?;
        if !packages.is_empty() {
            write!(f, " (Debian: apt-get install {})", packages.join(" "))?;
        }
        Ok(())
    }
}

/// Which programs of a workload this machine lacks.
#[must_use]
pub fn missing(file: &WorkloadFile) -> Option<Missing> {
    lacking(file, |program| find_program(program).is_some())
}

fn lacking(file: &WorkloadFile, has: impl Fn(&str) -> bool) -> Option<Missing> {
    let WorkloadFile { name, programs, packages, .. } = file;
    let programs: Vec<String> = programs.iter().filter(|program| !has(program)).cloned().collect();
    (!programs.is_empty()).then(|| Missing { name: name.clone(), programs, packages: packages.clone() })
}

/// A directory with workloads: `NAME.toml`, or `NAME/workload.toml` with scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    directory: PathBuf,
}

/// What says where the catalogue is.
#[derive(Clone, Debug, Default)]
struct Hints {
    /// The option.
    named: Option<PathBuf>,
    /// [`VARIABLE`].
    variable: Option<OsString>,
    /// This program's file.
    program: Option<PathBuf>,
    /// Where it was started.
    here: Option<PathBuf>,
}

impl Hints {
    /// The places to look in, the first first. One that was named is the only one.
    fn places(&self) -> Vec<PathBuf> {
        let variable = self.variable.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(named) = self.named.clone().or(variable) {
            return vec![named];
        }
        let beside = self.program.as_deref().and_then(Path::parent);
        let mut places: Vec<PathBuf> = beside.into_iter().map(|directory| directory.join(IN_CHECKOUT)).collect();
        places.extend(beside.and_then(Path::parent).map(|prefix| prefix.join(SHARED)));
        places.push(PathBuf::from(INSTALLED));
        for above in [beside, self.here.as_deref()].into_iter().flatten().flat_map(Path::ancestors) {
            if above.join(CHECKOUT).is_file() {
                places.push(above.join(IN_CHECKOUT));
            }
        }
        let mut seen = Vec::new();
        places.retain(|place| {
            !seen.contains(place) && {
                seen.push(place.clone());
                true
            }
        });
        places
    }
}

impl Catalogue {
    /// The catalogue: the one that is named, or else that of `$INJECTOR_WORKLOADS`, beside the program, installed, or in the
    /// checkout.
    ///
    /// # Errors
    /// There is none.
    pub fn find(named: Option<&Path>) -> Result<Self, WorkloadsError> {
        let program = env::current_exe().ok();
        let here = env::current_dir().ok();
        let hints = Hints { named: named.map(Path::to_owned), variable: env::var_os(VARIABLE), program, here };
        let places = hints.places();
        let found = places.iter().find(|place| place.is_dir()).cloned();
        found.map(|directory| Self { directory }).ok_or(WorkloadsError::NoCatalogue(places))
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn shown(&self) -> Foreign {
        Foreign::path(&self.directory)
    }

    /// The names of all workloads with their files, sorted.
    ///
    /// # Errors
    /// The directory can't be read, or a name is there twice.
    pub fn names(&self) -> Result<BTreeMap<String, PathBuf>, WorkloadsError> {
        let failed = |error| WorkloadsError::Unreadable { path: self.shown(), error };
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let described = if path.is_dir() { path.join(FILE) } else { path.clone() };
            let is_workload = path.extension().is_some_and(|end| end == "toml") || path.is_dir();
            if !is_workload || !described.is_file() {
                continue;
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if names.insert(name.clone(), described).is_some() {
                return Err(WorkloadsError::Twice { name: name.into(), catalogue: self.shown() });
            }
        }
        Ok(names)
    }

    /// A workload by its name.
    ///
    /// # Errors
    /// There is none, or its file is none of a workload.
    pub fn get(&self, name: &str) -> Result<WorkloadFile, WorkloadsError> {
        let names = self.names()?;
        let Some(path) = names.get(name) else {
            let close = suggest::did_you_mean(&suggest::close(name, names.keys().map(String::as_str), 3));
            return Err(WorkloadsError::Unknown { name: name.into(), catalogue: self.shown(), close });
        };
        Ok(WorkloadFile::read(path)?)
    }

    /// All workloads, or those with a tag, by name.
    ///
    /// # Errors
    /// A file is none of a workload; no workload has the tag.
    pub fn all(&self, tag: Option<&str>) -> Result<Vec<WorkloadFile>, WorkloadsError> {
        let read = |path: &PathBuf| WorkloadFile::read(path);
        let all = self.names()?.values().map(read).collect::<Result<Vec<_>, _>>()?;
        let Some(tag) = tag else { return Ok(all) };
        let mut tags: Vec<String> = all.iter().flat_map(|file| file.tags.iter().cloned()).collect();
        let wanted: Vec<WorkloadFile> = all.into_iter().filter(|file| file.tags.iter().any(|one| one == tag)).collect();
        if wanted.is_empty() {
            tags.sort();
            tags.dedup();
            let tags = tags.join(", ");
            return Err(WorkloadsError::UnknownTag { tag: tag.into(), catalogue: self.shown(), tags });
        }
        Ok(wanted)
    }
}

/// Whether it is a path, and no name in the catalogue.
fn is_path(word: &str) -> bool {
    word.contains('/') || word.ends_with(".toml")
}

/// A workload by its name in the catalogue, or by its path.
///
/// # Errors
/// There is none, or its file is none of a workload.
pub fn find(word: &str, catalogue: Option<&Path>) -> Result<WorkloadFile, WorkloadsError> {
    if is_path(word) {
        return Ok(WorkloadFile::read(word.as_ref())?);
    }
    Catalogue::find(catalogue)?.get(word)
}

#[cfg(test)]
mod tests;
