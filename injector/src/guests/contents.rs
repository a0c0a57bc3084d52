//! What the guests of a sweep have: the injector, a shell, the programs that the user names, and the workload.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use injector_guest::{
    Initramfs, Root,
    initramfs::InitramfsError,
    root::{self, Base, Image, RootError, find_program, mounted_over},
};
use tempfile::TempDir;

use super::{Line, Show, VmError, VmPlan, kernel::BootedKernel};

/// Where a workload goes if its own path is one that the guest mounts a file system on.
const WORKLOAD_DIRECTORY: &str = "/workload";

/// Files that guests boot with, and the paths under which a guest has them.
#[derive(Debug)]
pub struct Contents {
    place: Place,
    /// What guests boot.
    pub kernel: BootedKernel,
    /// The injector's path in the guest.
    pub injector: String,
    /// The workload as the guest has it.
    pub command: Vec<OsString>,
}

#[derive(Debug)]
enum Place {
    /// The guest has a root of its own.
    Image(Image),
    /// The guest has this machine's files; those of the controller are in this directory.
    Directory(TempDir),
}

impl Contents {
    /// Puts the guests' files together.
    ///
    /// # Errors
    /// [`VmError::Root`], [`VmError::NoProgram`].
    pub fn new(plan: &VmPlan, show: &Show) -> Result<Self, VmError> {
        match plan.guests.engine.root() {
            Root::Images => Self::in_memory(plan, show),
            Root::Host => Self::on_this_machine(plan),
        }
    }

    fn in_memory(plan: &VmPlan, show: &Show) -> Result<Self, VmError> {
        let say = |text: &str| show(&Line { job: None, guest: false, text: format!("vm: {text}") });
        let kernel = BootedKernel::find(&plan.guests, &say)?;
        let Base { mut root, missing } = root::base(&plan.injector)?;
        if !missing.is_empty() {
            say(&format!("left out, since this machine does not have them: {}", missing.join(" ")));
        }
        let injector = "/usr/bin/injector".to_owned();
        root.symlink(&injector, "/init");
        kernel.put_into(&mut root)?;
        for (host, guest) in &plan.guests.added {
            root::add(&mut root, host, guest)?;
        }
        for name in &plan.guests.programs {
            let path = find_program(name).ok_or_else(|| VmError::NoProgram(name.clone()))?;
            root::add(&mut root, &path, &format!("/usr/bin/{name}"))?;
        }
        let words: Vec<String> = plan.sweep.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let command = place(&words, &mut root)?.into_iter().map(OsString::from).collect();
        let image = Image::new(&root).map_err(RootError::from)?;
        Ok(Self { place: Place::Image(image), kernel, injector, command })
    }

    fn on_this_machine(plan: &VmPlan) -> Result<Self, VmError> {
        let command = plan.sweep.command.clone();
        let program = command.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned());
        let is_there =
            if program.contains('/') { Path::new(&program).is_file() } else { find_program(&program).is_some() };
        if !is_there {
            return Err(VmError::NoProgram(program));
        }
        // A virtme-ng guest sees this machine's /tmp, but not its /var/tmp or /run.
        let made = tempfile::Builder::new().prefix(injector_guest::spec::DIRECTORY_PREFIX).tempdir_in("/tmp");
        let directory =
            made.map_err(|source| RootError::from(InitramfsError::File { path: PathBuf::from("/tmp"), source }))?;
        let injector = plan.injector.to_string_lossy().into_owned();
        let kernel = BootedKernel::of_image(plan.guests.kernel.as_ref());
        Ok(Self { place: Place::Directory(directory), kernel, injector, command })
    }

    /// The images that a guest's root is made of.
    pub fn images(&self) -> Vec<PathBuf> {
        match &self.place {
            Place::Image(image) => vec![image.path().to_owned()],
            Place::Directory(_) => Vec::new(),
        }
    }

    /// The path in the guest of a job for one of the controller's files.
    pub fn path(&self, job: u32, name: &str) -> String {
        match &self.place {
            Place::Image(_) => format!("/injector-{name}"),
            Place::Directory(directory) => {
                directory.path().join(format!("{job}-{name}")).to_string_lossy().into_owned()
            }
        }
    }
}

/// Puts the workload's program into the root, and returns the command that starts it in the guest.
fn place(command: &[String], root: &mut Initramfs) -> Result<Vec<String>, VmError> {
    let Some((program, arguments)) = command.split_first() else { return Err(VmError::NoProgram(String::new())) };
    let program = if program.contains('/') {
        // The guest has another working directory.
        let host = std::path::absolute(program)
            .map_err(|source| RootError::from(InitramfsError::File { path: PathBuf::from(program), source }))?;
        let wanted = host.to_string_lossy().into_owned();
        if root.contains(&wanted) {
            wanted
        } else if host.is_file() {
            let name = host.file_name().unwrap_or_default().to_string_lossy();
            let guest = if mounted_over(&wanted).is_some() { format!("{WORKLOAD_DIRECTORY}/{name}") } else { wanted };
            root::add(root, &host, &guest)?;
            guest
        } else {
            return Err(VmError::NoProgram(program.clone()));
        }
    } else {
        let there = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
        if !there.iter().any(|directory| root.contains(&format!("{directory}/{program}"))) {
            let host = find_program(program).ok_or_else(|| VmError::NoProgram(program.clone()))?;
            root::add(root, &host, &format!("/usr/bin/{program}"))?;
        }
        program.clone()
    };
    Ok(std::iter::once(program).chain(arguments.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::exit::{ExitCode, HasExitCode as _};

    fn placed(words: &[&str], root: &mut Initramfs) -> Result<Vec<String>, VmError> {
        place(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), root)
    }

    #[test]
    fn a_name_is_a_program_of_the_guest_or_becomes_one() {
        let mut root = Initramfs::overlay();
        root.symlink("/usr/bin/sh", "busybox");
        assert_eq!(placed(&["sh", "-c", "x"], &mut root).unwrap(), ["sh", "-c", "x"]);
        assert_eq!(placed(&["ldd", "x"], &mut root).unwrap(), ["ldd", "x"]);
        assert!(root.contains("/usr/bin/ldd"));
        let error = placed(&["no-such-program"], &mut root).unwrap_err();
        assert_eq!(
            (error.exit_code(), error.to_string().contains("no program no-such-program")),
            (ExitCode::USAGE, true)
        );
    }

    #[test]
    fn a_script_goes_where_it_is_unless_that_is_hidden() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let hidden = tempfile::tempdir_in("/tmp").unwrap();
        for place in [directory.path(), hidden.path()] {
            fs::write(place.join("work.sh"), "#!/bin/sh\n").unwrap();
            fs::set_permissions(place.join("work.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut root = Initramfs::overlay();
        root.symlink("/bin/sh", "busybox");
        let path = directory.path().join("work.sh").to_string_lossy().into_owned();
        assert_eq!(placed(&[&path], &mut root).unwrap(), [path.as_str()]);
        assert!(root.contains(&path));
        let path = hidden.path().join("work.sh").to_string_lossy().into_owned();
        assert_eq!(placed(&[&path, "x"], &mut root).unwrap(), ["/workload/work.sh", "x"]);
        assert!(root.contains("/workload/work.sh"));
    }

    #[test]
    fn what_was_added_need_not_be_a_file_of_this_machine() {
        let mut root = Initramfs::overlay();
        root.text("/workloads/ext4.sh", "#!/bin/sh\n");
        assert_eq!(placed(&["/workloads/ext4.sh"], &mut root).unwrap(), ["/workloads/ext4.sh"]);
        assert!(matches!(placed(&["/workloads/other.sh"], &mut root), Err(VmError::NoProgram(_))));
    }
}
