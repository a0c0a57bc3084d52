//! Workload files: what a sweep runs, and what that needs of this machine and of the guest, as TOML.
//!
//! What is wrong is said with line and column, as of plan files; both have the same reader.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use injector_kernels::selection::Wanted;

use super::file::{FileError, Keys, Source};
use super::{StackPattern, duration};
use crate::foreign::Foreign;

/// The file in a workload's directory.
pub const FILE: &str = "workload.toml";

/// Where guests with a root of their own have the directories of workloads.
pub const GUEST: &str = "/workloads";

/// The directory beside the workloads whose scripts several of them use.
pub const LIBRARY: &str = "lib";

/// What stands for the workload's own directory in its commands.
const OWN_DIRECTORY: &str = "@dir@";
/// What stands for [`LIBRARY`].
const LIBRARY_DIRECTORY: &str = "@lib@";

/// What stands for the names of its modules, without directories.
const MODULES: &str = "@modules@";

/// No workload needs as long a file.
const MOST_BYTES: u64 = 1 << 20;

/// A workload, as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadFile {
    /// Its name: of the file, or of the directory.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// One line.
    pub description: String,
    /// What it belongs to.
    pub tags: Vec<String>,
    /// Programs of this machine that guests get.
    pub programs: Vec<String>,
    /// Debian's packages with these programs.
    pub packages: Vec<String>,
    /// The only modules that guests get.
    pub modules: Vec<Wanted>,
    /// Options that the kernel must have, as `CONFIG_NET_NS`.
    pub options: Vec<String>,
    /// Words for the kernel's command line.
    pub append: Vec<String>,
    /// Devices of guests.
    pub devices: Vec<String>,
    /// Files and directories of this machine, and their paths in guests.
    pub files: Vec<(PathBuf, String)>,
    /// Only sites with one of these in their stack.
    pub only: Vec<StackPattern>,
    /// How long a sweep takes.
    pub budget: Option<Duration>,
    /// After this time a task hangs.
    pub hang: Option<Duration>,
    /// A guest's memory, in MiB.
    pub memory_mb: Option<u32>,
    /// A guest's processors.
    pub cpus: Option<u32>,
    /// Prepares the workload.
    pub setup: Option<String>,
    /// The workload: words of a command, or one shell script.
    pub run: Vec<String>,
    /// Takes down what the workload leaves.
    pub cleanup: Option<String>,
}

/// What a sweep runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// The workload.
    pub run: Vec<String>,
    /// Prepares it.
    pub setup: Option<String>,
    /// Takes it down.
    pub cleanup: Option<String>,
}

impl WorkloadFile {
    /// Reads the file of a workload, or [`FILE`] in its directory.
    ///
    /// # Errors
    /// It can't be read, or describes no workload.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let shown = Foreign::path(&path).to_string();
        let failed = |error| FileError::Read { name: shown.clone(), error };
        let length = fs::metadata(&path).map_err(failed)?.len();
        if length > MOST_BYTES {
            let error = std::io::Error::other(format!("it has more than {} KiB", MOST_BYTES >> 10));
            return Err(failed(error));
        }
        Self::parse(&path, &fs::read_to_string(&path).map_err(failed)?)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// It describes no workload.
    pub fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let shown = Foreign::path(path).to_string();
        let source = Source::new(&shown, text);
        let mut keys = Keys::of_file(&source)?;
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let mut this = Self {
            name: name_of(path),
            path: path.to_owned(),
            description: keys.one("description", line)?.unwrap_or_default(),
            tags: keys.any("tags", word)?,
            programs: keys.any("programs", word)?,
            packages: keys.any("packages", word)?,
            modules: keys.any("modules", str::parse)?,
            options: Vec::new(),
            append: Vec::new(),
            devices: keys.any("devices", line)?,
            files: keys.any("files", |text| added(text, path))?,
            only: keys.any("only", str::parse)?,
            budget: None,
            hang: None,
            memory_mb: None,
            cpus: None,
            setup: keys.one("setup", text)?,
            run: keys.any("run", text)?,
            cleanup: keys.one("cleanup", text)?,
        };
        if let Some(mut kernel) = keys.table("kernel")? {
            this.options = kernel.any("options", option)?;
            this.append = kernel.any("append", word)?;
            kernel.finish()?;
        }
        if let Some(mut limits) = keys.table("limits")? {
            this.budget = limits.one("budget", duration::parse)?;
            this.hang = limits.one("hang", duration::parse)?;
            this.memory_mb = limits.one("memory", number)?;
            this.cpus = limits.one("cpus", number)?;
            limits.finish()?;
        }
        let whole = |message: &str| Err(keys.error(message));
        if this.run.is_empty() {
            return whole("there is no `run`: write what the workload does, as a shell script or a list of words");
        }
        if this.description.is_empty() {
            return whole("there is no `description`: write one line that says what the workload does");
        }
        let commands = this.run.iter().chain(&this.setup).chain(&this.cleanup);
        if this.directory().is_none() && commands.into_iter().any(|command| command.contains(OWN_DIRECTORY)) {
            return whole("@dir@ is the directory of a workload that has one: write NAME/workload.toml");
        }
        keys.finish()?;
        Ok(this)
    }

    /// Its own directory, with its scripts, if it has one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        let is_in_directory = self.path.file_name().is_some_and(|name| name == FILE);
        self.path.parent().filter(|_| is_in_directory)
    }

    /// The directory with the scripts of several workloads, if there is one.
    #[must_use]
    pub fn library(&self) -> Option<PathBuf> {
        let beside = self.directory().unwrap_or(&self.path).parent()?;
        let library = if beside.as_os_str().is_empty() { PathBuf::from(LIBRARY) } else { beside.join(LIBRARY) };
        Some(library).filter(|library| library.is_dir())
    }

    /// What goes into guests with a root of their own: the directory, the library, and the files.
    #[must_use]
    pub fn added(&self) -> Vec<(PathBuf, String)> {
        let own = self.directory().map(|directory| (directory.to_owned(), format!("{GUEST}/{}", self.name)));
        let library = self.library().map(|library| (library, format!("{GUEST}/{LIBRARY}")));
        own.into_iter().chain(library).chain(self.files.iter().cloned()).collect()
    }

    /// The commands, as guests with a root of their own run them, or as this machine does.
    #[must_use]
    pub fn commands(&self, own_root: bool) -> Commands {
        let place = |host: Option<PathBuf>, guest: &str| {
            let host = host.map(|path| std::path::absolute(&path).unwrap_or(path));
            let host = host.map_or_else(String::new, |path| path.to_string_lossy().into_owned());
            if own_root { format!("{GUEST}/{guest}") } else { host }
        };
        let directory = place(self.directory().map(Path::to_owned), &self.name);
        let library = place(self.library(), LIBRARY);
        let names = self.modules.iter().filter_map(|wanted| match wanted {
            Wanted::Module(name) | Wanted::IfThere(name) => Some(name.as_str()),
            Wanted::Below(_) => None,
        });
        let names = names.collect::<Vec<_>>().join(" ");
        let filled = |text: &String| {
            text.replace(OWN_DIRECTORY, &directory).replace(LIBRARY_DIRECTORY, &library).replace(MODULES, &names)
        };
        let run = match self.run.as_slice() {
            [script] => vec!["sh".to_owned(), "-c".to_owned(), filled(script)],
            words => words.iter().map(filled).collect(),
        };
        Commands { run, setup: self.setup.as_ref().map(filled), cleanup: self.cleanup.as_ref().map(filled) }
    }
}

/// Reads a list of workloads: names and tags.
///
/// # Errors
/// It is no list, or names nothing.
pub fn read_list(shown: &str, text: &str) -> Result<(Vec<String>, Vec<String>), FileError> {
    let source = Source::new(shown, text);
    let mut keys = Keys::of_file(&source)?;
    let (workloads, tags) = (keys.any("workloads", word)?, keys.any("tags", word)?);
    if workloads.is_empty() && tags.is_empty() && keys.is_empty() {
        return Err(keys.error("the list names no workload: write workloads = [\"ext4\"] or tags = [\"block\"]"));
    }
    keys.finish()?;
    Ok((workloads, tags))
}

/// The name of a workload with this file.
fn name_of(path: &Path) -> String {
    let path = match path.file_name() {
        Some(name) if name == FILE => path.parent().unwrap_or(path),
        _ => path,
    };
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn line(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() || text.contains('\n') { Err("write one line") } else { Ok(text.to_owned()) }
}

fn word(text: &str) -> Result<String, &'static str> {
    let is_word = !text.is_empty() && !text.contains(char::is_whitespace);
    if is_word { Ok(text.to_owned()) } else { Err("write one word each, without spaces") }
}

fn number(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or("write a whole number from 1 on")
}

fn option(text: &str) -> Result<String, &'static str> {
    let is_option = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let named = text.strip_prefix("CONFIG_").filter(|name| is_option(name));
    named.map(|_| text.to_owned()).ok_or("write options of the kernel as CONFIG_NET_NS")
}

/// `FILE:GUESTPATH`; a relative file is one beside the workload's.
fn added(text: &str, path: &Path) -> Result<(PathBuf, String), String> {
    let (file, guest) =
        text.rsplit_once(':').filter(|(file, guest)| !file.is_empty() && guest.starts_with('/')).ok_or_else(|| {
            format!("`{}`: write FILE:GUESTPATH, with an absolute path in the guest", Foreign::from(text))
        })?;
    Ok((path.parent().unwrap_or(Path::new("")).join(file), guest.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "description = \"x\"\nrun = \"true\"\n";

    fn parse(text: &str) -> Result<WorkloadFile, String> {
        WorkloadFile::parse("some/block.toml".as_ref(), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_says_all_there_is_to_know() {
        let text = "description = \"Devices\"\ntags = [\"block\", \"dm\"]\nprograms = \"dmsetup\"\n\
            packages = [\"dmsetup\"]\nmodules = [\"dm-mod\", \"drivers/md/\"]\ndevices = [\"virtio-net-pci\"]\n\
            files = [\"x.sh:/x.sh\"]\nonly = [\"[dm_mod]\"]\nsetup = \"s\"\nrun = [\"sh\", \"/x.sh\"]\ncleanup = \"c\"\n\
            [kernel]\noptions = [\"CONFIG_BLK_DEV_DM\"]\nappend = [\"quiet\"]\n\
            [limits]\nbudget = \"10m\"\nmemory = 3072\ncpus = 2\nhang = \"1m\"\n";
        let file = parse(text).unwrap();
        assert_eq!((file.name.as_str(), file.description.as_str()), ("block", "Devices"));
        assert_eq!(file.tags, ["block", "dm"]);
        assert_eq!(file.modules, [Wanted::Module("dm-mod".into()), Wanted::Below("drivers/md/".into())]);
        assert_eq!(file.files, [("some/x.sh".into(), "/x.sh".to_owned())]);
        assert_eq!((file.budget, file.hang), (Some(Duration::from_secs(600)), Some(Duration::from_secs(60))));
        assert_eq!((file.memory_mb, file.cpus), (Some(3072), Some(2)));
        assert_eq!((file.options, file.append), (vec!["CONFIG_BLK_DEV_DM".to_owned()], vec!["quiet".to_owned()]));
        assert_eq!(file.run, ["sh", "/x.sh"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, says) in [
            ("moduls = [\"dm\"]", "3:1", "did you mean `modules`?"),
            ("modules = [\"dm.ko\"]", "3:12", "write a name, as in dm-mod"),
            ("modules = []", "3:11", "leave the key out"),
            ("tags = [\"a b\"]", "3:9", "without spaces"),
            ("files = [\"x.sh\"]", "3:10", "FILE:GUESTPATH"),
            ("devices = [\"a\\nb\"]", "3:12", "one line"),
            ("setup = 1979-05-27", "3:9", "no date"),
            ("[limits]\nbudget = \"soon\"", "4:10", "budget:"),
            ("[limits]\nmemory = 0", "4:10", "from 1 on"),
            ("[limits]\nmem = 1", "4:1", "there is no key `mem`"),
            ("[kernel]\noptions = [\"NET_NS\"]", "4:12", "CONFIG_NET_NS"),
            ("kernel = 3", "3:10", "write [kernel]"),
            ("tags = [\"a\"", "", "array"),
        ] {
            let error = parse(&format!("{MINIMAL}{text}\n")).unwrap_err();
            let at = format!("some/block.toml:{line}");
            assert!(error.starts_with(&at) && error.contains(says), "{text}: {error}");
        }
        for (text, says) in [
            ("run = \"true\"\n", "no `description`"),
            ("description = \"x\"\n", "no `run`"),
            ("description = \"x\"\nrun = \"sh @dir@/x.sh\"\n", "NAME/workload.toml"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("some/block.toml:1:1: ") && error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_workload_with_scripts_finds_them_here_and_in_the_guest() {
        let catalogue = tempfile::tempdir().unwrap();
        let place = catalogue.path().join("dm");
        for directory in [&place, &catalogue.path().join(LIBRARY)] {
            fs::create_dir_all(directory).unwrap();
        }
        let text = "description = \"x\"\nsetup = \". @lib@/lib.sh\"\nrun = [\"sh\", \"@dir@/dm.sh\", \"run\"]\n";
        fs::write(place.join(FILE), text).unwrap();
        let file = WorkloadFile::read(&place).unwrap();
        assert_eq!(file.name, "dm");
        let commands = file.commands(true);
        assert_eq!(commands.run, ["sh", "/workloads/dm/dm.sh", "run"]);
        assert_eq!(commands.setup.as_deref(), Some(". /workloads/lib/lib.sh"));
        assert_eq!(file.commands(false).run[1], place.join("dm.sh").to_string_lossy());
        let guest: Vec<String> = file.added().into_iter().map(|(_, guest)| guest).collect();
        assert_eq!(guest, ["/workloads/dm", "/workloads/lib"]);
    }

    #[test]
    fn a_script_in_the_file_goes_to_a_shell() {
        assert_eq!(parse(MINIMAL).unwrap().commands(true).run, ["sh", "-c", "true"]);
    }

    #[test]
    fn commands_can_name_the_modules() {
        let text = "description = \"x\"\nmodules = [\"a\", \"b?\", \"c/\"]\nrun = [\"load\", \"@modules@\"]\n";
        assert_eq!(parse(text).unwrap().commands(true).run, ["load", "a b"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_with_its_name() {
        let error = WorkloadFile::read("/no/such.toml".as_ref()).unwrap_err().to_string();
        assert!(error.contains("/no/such.toml"), "{error}");
    }
}
