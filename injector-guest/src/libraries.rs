//! Finds the shared libraries that a program needs, as the dynamic loader of this machine would.

use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// Why a program's libraries could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum LibrariesError {
    /// `ldd` could not be run.
    #[error("ldd {program}: {source} (ldd comes with libc-bin)")]
    Ldd {
        /// The program that was asked about.
        program: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The loader does not find a library.
    #[error("{program} needs {library}, which this machine does not have: install the package of the program anew")]
    NotFound {
        /// The program that was asked about.
        program: PathBuf,
        /// The library's name.
        library: String,
    },
}

/// The libraries of `program`, its loader included; none for a static program or a script.
pub fn of(program: &Path) -> Result<Vec<PathBuf>, LibrariesError> {
    let output = process::Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(|source| LibrariesError::Ldd { program: program.to_owned(), source })?;
    // A static program or a script makes ldd fail; both need no libraries.
    if !output.status.success() {
        return Ok(Vec::new());
    }
    parse(&String::from_utf8_lossy(&output.stdout))
        .map_err(|library| LibrariesError::NotFound { program: program.to_owned(), library })
}

/// Reads what ldd prints; the error is the name of a library that was not found.
fn parse(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut libraries = Vec::new();
    for line in text.lines().map(str::trim) {
        let path = match line.split_once(" => ") {
            Some((name, "not found")) => return Err(name.to_owned()),
            Some((_, found)) => found,
            None => line,
        };
        let path = path.split(" (").next().unwrap_or(path);
        if path.starts_with('/') {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_taken_the_vdso_is_not() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd2)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n";
        let found = parse(text).unwrap();
        assert_eq!(
            found,
            [PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")]
        );
    }

    #[test]
    fn static_programs_have_none() {
        assert_eq!(parse("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_missing_library_is_named() {
        assert_eq!(parse("\tlibfoo.so.1 => not found\n"), Err("libfoo.so.1".to_owned()));
    }
}
