//! Tools of a newer Debian on an older one: the programs in a kernel's headers that need a newer C library than this machine's
//! get one of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Where headers have programs, below a root.
const PLACES: [&str; 2] = ["usr/lib", "usr/src"];

/// Begins the names of the directories with programs.
const KBUILD: &str = "linux-kbuild-";

/// Where the C library goes, below the root.
pub const LIBRARY: &str = "libc";

/// The programs that don't run with this machine's C library.
///
/// # Errors
/// A directory can't be read.
pub fn find(root: &Path) -> Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for place in PLACES {
        for entry in fs::read_dir(root.join(place)).into_iter().flatten().flatten() {
            let kbuild = entry.file_name().to_string_lossy().starts_with(KBUILD);
            if kbuild && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                collect(&entry.path(), &mut programs)?;
            }
        }
    }
    programs.retain(|program| lacks_version(program));
    programs.sort();
    Ok(programs)
}

fn collect(directory: &Path, programs: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("can't read {}", directory.display()))? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            collect(&path, programs)?;
        } else if kind.is_file() && entry.metadata()?.permissions().mode() & 0o100 != 0 {
            programs.push(path);
        }
    }
    Ok(())
}

/// Whether the dynamic loader says that the C library is too old.
fn lacks_version(program: &Path) -> bool {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output();
    output.is_ok_and(|output| {
        says_too_old(&String::from_utf8_lossy(&output.stderr)) || says_too_old(&String::from_utf8_lossy(&output.stdout))
    })
}

fn says_too_old(text: &str) -> bool {
    text.lines().any(|line| line.contains("version `GLIBC_") && line.contains("not found"))
}

/// Puts a script in the place of each program. The script starts it with the C library below `root`.
///
/// # Errors
/// A file can't be written.
pub fn wrap(root: &Path, programs: &[PathBuf]) -> Result<()> {
    for program in programs {
        let mut real = program.as_os_str().to_owned();
        real.push(".elf");
        let failed = || format!("can't write {}", program.display());
        fs::rename(program, &real).with_context(failed)?;
        let depth = program.strip_prefix(root).with_context(failed)?.components().count();
        let up = vec![".."; depth.saturating_sub(1)].join("/");
        let script = format!(
            "#!/bin/sh\n# Built with a newer C library than this machine has.\n\
             libc=$(dirname \"$(readlink -f \"$0\")\")/{up}/{LIBRARY}/usr/lib/x86_64-linux-gnu\n\
             exec \"$libc/ld-linux-x86-64.so.2\" --library-path \"$libc\" \"$0.elf\" \"$@\"\n"
        );
        fs::write(program, script).with_context(failed)?;
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::find_program;

    #[test]
    fn the_loaders_complaint_is_told_from_others() {
        let too_old =
            "./objtool: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by ./objtool)\n";
        assert!(says_too_old(too_old));
        assert!(!says_too_old("\tnot a dynamic executable\n"));
    }

    /// With this machine's own loader in the place of a newer one.
    #[test]
    fn a_wrapped_program_runs_from_anywhere() {
        let root = tempfile::tempdir().unwrap();
        let tools = root.path().join("usr/lib/linux-kbuild-1/tools");
        let library = root.path().join(LIBRARY).join("usr/lib/x86_64-linux-gnu");
        for directory in [&tools, &library] {
            fs::create_dir_all(directory).unwrap();
        }
        symlink("/lib64/ld-linux-x86-64.so.2", library.join("ld-linux-x86-64.so.2")).unwrap();
        let program = tools.join("echo");
        fs::copy(find_program("echo").unwrap(), &program).unwrap();
        assert_eq!(find(root.path()).unwrap(), Vec::<PathBuf>::new(), "this machine's echo fits this machine");
        wrap(root.path(), std::slice::from_ref(&program)).unwrap();
        let output = Command::new("./echo").arg("a b").current_dir(&tools).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a b\n", "{output:?}");
    }
}
