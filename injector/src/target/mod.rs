//! The command, processes or cgroups under test.
//!
//! [`Targets::open`] turns the plan's words into handles on things that exist, before anything is loaded; so
//! a pid that isn't there or a path that is no cgroup ends the run while nothing is attached.

mod cgroup;
mod command;
mod container;
mod pidns;
mod process;

use injector_common::config::{
    self, FEW_PIDS, MAX_CGROUPS, MAX_PID_NAMESPACES, MAX_PIDS, TARGET_CGROUPS, TARGET_FEW_PIDS, TARGET_MANY_PIDS,
    TARGET_PID_NAMESPACES,
};

pub use cgroup::{Cgroup, OwnCgroup};
pub use command::{Command, CommandEnd};
pub use pidns::PidNamespace;
pub use process::Process;

use crate::plan::Target;

/// A target that can't be used: bad input, exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(String);

crate::exit::has_exit_code!(TargetError => USAGE);

impl TargetError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Everything that is under test, opened.
#[derive(Debug)]
pub struct Targets {
    /// The processes given by `--pid`.
    pub processes: Vec<Process>,
    /// The cgroups given by `--cgroup`, and those of containers.
    pub cgroups: Vec<Cgroup>,
    /// The PID namespaces given by `--pidns`.
    pub pid_namespaces: Vec<PidNamespace>,
    /// The fresh cgroup in which the command will run.
    pub own: Option<OwnCgroup>,
}

impl Targets {
    /// Opens what the plan names, and makes a fresh cgroup if there is a command.
    ///
    /// # Errors
    /// When a process doesn't exist, a path is not a cgroup v2, or there are too many of them.
    pub fn open(target: &Target) -> Result<Self, TargetError> {
        if target.pids.len() > MAX_PIDS as usize {
            return Err(TargetError::new(format!(
                "{} processes are too many: at most {MAX_PIDS}; use --cgroup",
                target.pids.len()
            )));
        }
        let cgroups = target.cgroups.len() + target.containers.len() + usize::from(target.command.is_some());
        if cgroups > MAX_CGROUPS {
            return Err(TargetError::new(format!(
                "{cgroups} cgroups (with those of the command and of containers) are too many: at most {MAX_CGROUPS}; name their parent instead"
            )));
        }
        if target.pid_namespaces.len() > MAX_PID_NAMESPACES {
            return Err(TargetError::new(format!(
                "{} PID namespaces are too many: at most {MAX_PID_NAMESPACES}; name one that they are in",
                target.pid_namespaces.len()
            )));
        }
        let named = target.cgroups.iter().map(|path| Cgroup::open(path));
        let containers =
            target.containers.iter().map(|name| Cgroup::open(&container::find(&cgroup::mount_point()?, name)?));
        Ok(Self {
            processes: target.pids.iter().map(|pid| Process::open(*pid)).collect::<Result<_, _>>()?,
            cgroups: named.chain(containers).collect::<Result<_, _>>()?,
            pid_namespaces: target.pid_namespaces.iter().map(PidNamespace::open).collect::<Result<_, _>>()?,
            own: target.command.as_ref().map(|_| OwnCgroup::create()).transpose()?,
        })
    }

    /// The same, as the hook wants it.
    #[must_use]
    pub fn wire(&self) -> config::Target {
        let mut wire = config::Target::default();
        if self.processes.len() > FEW_PIDS {
            wire.kinds |= TARGET_MANY_PIDS;
        } else if !self.processes.is_empty() {
            wire.kinds |= TARGET_FEW_PIDS;
            // None is left unused: 0 would be the idle task.
            for (slot, process) in wire.pids.iter_mut().zip(self.processes.iter().cycle()) {
                *slot = process.pid();
            }
        }
        for (slot, cgroup) in
            wire.cgroups.iter_mut().zip(self.cgroups.iter().chain(self.own.as_ref().map(OwnCgroup::cgroup)))
        {
            *slot = config::Cgroup { id: cgroup.id(), level: cgroup.level(), _pad: 0 };
            wire.cgroups_len += 1;
            wire.kinds |= TARGET_CGROUPS;
        }
        for (slot, namespace) in wire.pid_namespaces.iter_mut().zip(&self.pid_namespaces) {
            // Where the kernel has it is told by whoever knows the kernel.
            let at = config::ABSENT;
            *slot = config::PidNamespace { inum: namespace.inum(), level: namespace.level(), namespace: at, _pad: 0 };
            wire.pid_namespaces_len += 1;
            wire.kinds |= TARGET_PID_NAMESPACES;
        }
        wire
    }

    /// Whether PID 1 was named.
    #[must_use]
    pub fn names_init(&self) -> bool {
        self.processes.iter().any(|process| process.pid() == 1)
    }
}
