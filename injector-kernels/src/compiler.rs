//! The compiler that a kernel was built by, and the one that builds modules for it here.
//!
//! A module needs a compiler that takes the options which the kernel's build tree has for the kernel's own. A compiler that is
//! a little older than that lacks some which concern nothing but the module's own code; they are left out. Any other option
//! that it does not know is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{find_program, missing};

/// The options that a compiler may do without. The kernel and the module agree all the same: on how functions are called, on
/// the layout of structures, and on what is at a function's entry.
const OPTIONAL: [&str; 5] = [
    // Warnings.
    "-W",
    // Where functions begin. Older compilers have another option for it.
    MIN_ALIGNMENT,
    // Which bytes of a union an initialiser clears.
    "-fzero-init-padding-bits=",
    // Which trailing arrays are taken for flexible ones, for warnings and checks.
    "-fstrict-flex-arrays",
    // How messages look.
    "-fdiagnostics-",
];
const MIN_ALIGNMENT: &str = "-fmin-function-alignment=";
const ALIGNMENT: &str = "-falign-functions=";

/// Debian's headers call tools with this before their names.
const CROSS: &str = "x86_64-linux-gnu-";

/// The compiler that a kernel was built by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltBy {
    /// As the kernel's options have it: `gcc-14 (Debian 14.2.0-19) 14.2.0`.
    pub text: String,
    clang: bool,
}

impl BuiltBy {
    /// From the options of a build tree.
    #[must_use]
    pub fn of(tree: &Path) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(tree.join(name)).ok();
        Self::read(&read("include/config/auto.conf").or_else(|| read(".config"))?)
    }

    fn read(options: &str) -> Option<Self> {
        let text = options.lines().find_map(|line| line.strip_prefix("CONFIG_CC_VERSION_TEXT="))?.trim_matches('"');
        Some(Self { text: text.to_owned(), clang: options.lines().any(|line| line == "CONFIG_CC_IS_CLANG=y") })
    }

    /// Its program, as the one who built the kernel called it.
    fn program(&self) -> &str {
        let first = self.text.split(' ').next().unwrap_or_default();
        // Some are called by a path, and clang says its vendor first.
        let name = first.rsplit('/').next().unwrap_or_default();
        let name = name.strip_prefix(CROSS).unwrap_or(name);
        if self.clang {
            "clang"
        } else if name.contains("gcc") {
            name
        } else {
            "gcc"
        }
    }

    /// What make is told beside the usual.
    #[must_use]
    pub fn make_arguments(&self) -> &'static [&'static str] {
        if self.clang { &["LLVM=1"] } else { &[] }
    }
}

/// A directory for the front of PATH, with a compiler under the names that a build tree may call it by.
#[derive(Debug)]
pub struct Stand {
    compiler: PathBuf,
    names: Vec<String>,
    left_out: Vec<String>,
}

impl Stand {
    /// The compiler of this machine that comes closest to the kernel's.
    ///
    /// # Errors
    /// There is none.
    pub fn find(built_by: Option<&BuiltBy>) -> Result<Self> {
        let name = built_by.map_or("gcc", BuiltBy::program);
        let general = if name == "clang" { "clang" } else { "gcc" };
        let compiler = find_program(name).or_else(|| find_program(general)).ok_or_else(|| {
            let by = built_by.map_or_else(String::new, |by| format!("; the kernel was built by {}", by.text));
            missing(format!("this machine has no {general}, which builds modules{by}; install {general}"))
        })?;
        let names = [name.to_owned(), format!("{CROSS}{name}")];
        let names = names.into_iter().filter(|name| find_program(name).is_none()).collect();
        Ok(Self { names, compiler, left_out: Vec::new() })
    }

    /// Whether the build tree finds the compiler without a directory of ours.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !(self.names.is_empty() && self.left_out.is_empty())
    }

    /// Leaves out the options that the compiler has complained about. `false`: there are none but those that are left out
    /// already.
    ///
    /// # Errors
    /// The module can't do without one of them.
    pub fn leave_out(&mut self, complaints: &str, built_by: Option<&BuiltBy>) -> Result<bool> {
        let unknown: Vec<String> =
            unknown_options(complaints).into_iter().filter(|option| !self.left_out.contains(option)).collect();
        if let Some(needed) = unknown.iter().find(|option| !OPTIONAL.iter().any(|begin| option.starts_with(begin))) {
            let by = built_by.map_or("a newer compiler", |by| &by.text);
            return Err(missing(format!(
                "{} is too old: it does not know {needed}, and the kernel was built by {by}; install that compiler",
                self.compiler.display()
            )));
        }
        let any = !unknown.is_empty();
        self.left_out.extend(unknown);
        // The driver is called by all its names then.
        if any && let Some(name) = self.compiler.file_name() {
            let name = name.to_string_lossy();
            let named = built_by.map_or("gcc", BuiltBy::program);
            self.names.extend([&name, named].iter().flat_map(|name| [(*name).to_owned(), format!("{CROSS}{name}")]));
            self.names.sort();
            self.names.dedup();
        }
        Ok(any)
    }

    /// The options that are left out, and why, in one line.
    #[must_use]
    pub fn note(&self, built_by: Option<&BuiltBy>) -> Option<String> {
        let by = built_by.map_or("a newer compiler", |by| &by.text);
        (!self.left_out.is_empty()).then(|| {
            format!(
                "{} does without {}, which it does not know (the kernel was built by {by})",
                self.compiler.display(),
                self.left_out.join(" ")
            )
        })
    }

    /// Writes the directory.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
        for name in &self.names {
            let path = directory.join(name);
            let written = fs::write(&path, self.script())
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
            written.with_context(|| format!("can't write {}", path.display()))?;
        }
        Ok(())
    }

    fn script(&self) -> String {
        let mut cases = String::new();
        for option in &self.left_out {
            let instead = option
                .strip_prefix(MIN_ALIGNMENT)
                .map_or_else(|| "continue".to_owned(), |alignment| format!("word={ALIGNMENT}{alignment}"));
            cases.push_str(&format!("\t'{option}') {instead} ;;\n"));
        }
        let compiler = self.compiler.display();
        format!(
            "#!/bin/sh\nfor word do\n\tshift\n\tcase $word in\n\t'') ;;\n{cases}\tesac\n\tset -- \"$@\" \"$word\"\ndone\nexec '{compiler}' \"$@\"\n"
        )
    }
}

/// The options that gcc or clang do not know, as they say it.
fn unknown_options(complaints: &str) -> Vec<String> {
    let says = ["unrecognized command-line option", "unrecognized argument in option", "unknown argument:"];
    let mut options: Vec<String> = complaints
        .lines()
        .filter_map(|line| {
            let rest = says.iter().find_map(|says| line.split_once(says))?.1;
            // In a C locale the quotes are plain, in others not.
            let option = rest.trim_start_matches([' ', '\'', '‘', '`']);
            let option = option.split(['\'', '’', ';']).next()?;
            option.starts_with('-').then(|| option.to_owned())
        })
        .collect();
    options.sort();
    options.dedup();
    options
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const COMPLAINTS: &str = "\
  CC [M]  /tmp/x/a.o
gcc-14: error: unrecognized command-line option '-fmin-function-alignment=16'
gcc-14: error: unrecognized command-line option ‘-fzero-init-padding-bits=all’; did you mean ‘-fx’?
make[2]: *** [a.o] Error 1
";

    fn stand() -> Stand {
        Stand { compiler: PathBuf::from("/bin/echo"), names: Vec::new(), left_out: Vec::new() }
    }

    #[test]
    fn the_kernels_compiler_is_read_from_its_options() {
        let gcc = "CONFIG_CC_VERSION_TEXT=\"gcc-14 (Debian 14.2.0-19) 14.2.0\"\nCONFIG_CC_IS_GCC=y\n";
        let gcc = BuiltBy::read(gcc).unwrap();
        assert_eq!((gcc.program(), gcc.make_arguments().len()), ("gcc-14", 0));
        let cross =
            BuiltBy::read("CONFIG_CC_VERSION_TEXT=\"x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0\"\n").unwrap();
        assert_eq!(cross.program(), "gcc-14");
        let arch = BuiltBy::read("CONFIG_CC_VERSION_TEXT=\"gcc (GCC) 15.1.1\"\n").unwrap();
        assert_eq!(arch.program(), "gcc");
        let clang = "CONFIG_CC_VERSION_TEXT=\"Debian clang version 19.1.7\"\nCONFIG_CC_IS_CLANG=y\n";
        let clang = BuiltBy::read(clang).unwrap();
        assert_eq!((clang.program(), clang.make_arguments()), ("clang", &["LLVM=1"][..]));
        assert_eq!(BuiltBy::read("CONFIG_X=y\n"), None);
    }

    #[test]
    fn options_that_concern_only_the_modules_code_are_left_out() {
        let mut stand = stand();
        assert!(stand.leave_out(COMPLAINTS, None).unwrap());
        assert_eq!(stand.left_out, ["-fmin-function-alignment=16", "-fzero-init-padding-bits=all"]);
        assert!(!stand.leave_out(COMPLAINTS, None).unwrap(), "nothing new");
        assert!(stand.note(None).unwrap().starts_with("/bin/echo does without -fmin-function-alignment=16 "));
    }

    #[test]
    fn an_option_that_changes_how_functions_are_called_is_refused() {
        let by = BuiltBy { text: "gcc 13.1".to_owned(), clang: false };
        let complaints = "cc: error: unrecognized command-line option '-mfunction-return=thunk-extern'\n";
        let error = stand().leave_out(complaints, Some(&by)).unwrap_err();
        assert!(error.is::<crate::Missing>());
        let text = error.to_string();
        assert!(
            text.contains("does not know -mfunction-return")
                && text.ends_with("built by gcc 13.1; install that compiler")
        );
    }

    #[test]
    fn the_stand_in_passes_on_all_other_words() {
        let directory = tempfile::tempdir().unwrap();
        let mut stand = stand();
        stand.leave_out(COMPLAINTS, None).unwrap();
        stand.write(directory.path()).unwrap();
        let words = ["-O2", "-fmin-function-alignment=16", "-DX=a b", "-fzero-init-padding-bits=all", "", "x.c"];
        let output = Command::new(directory.path().join("echo")).args(words).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "-O2 -falign-functions=16 -DX=a b  x.c\n");
    }
}
