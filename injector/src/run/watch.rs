//! What may happen while a run goes on: targets go, modules come, commands end.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd as _, AsRawFd, OwnedFd},
};

use aya_log::EbpfLogger;
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
};
use tracing::debug;

use crate::{
    exit::{Context as _, Result},
    kernel::{KernelFiles, modules::Modules},
    sinks,
    target::{Command, PidNamespace, Targets},
};

/// Modules that are loaded after the start: the stack filters don't see them.
pub(super) struct LateModules {
    known: Modules,
}

impl LateModules {
    /// Those that are there are none.
    pub(super) fn since(known: &Modules) -> Self {
        Self { known: known.clone() }
    }

    /// Says of each new one, once, that it is missed.
    pub(super) fn say(&mut self, files: &KernelFiles) {
        let modules = match Modules::read(files) {
            Ok(modules) => modules,
            Err(error) => return debug!("late modules: {error}"),
        };
        for module in modules.as_slice().iter().filter(|module| self.known.named(&module.name).is_none()) {
            sinks::announce(format_args!(
                "module {} was loaded after the start: stack filters do not see its functions; start again to have them",
                module.name
            ));
        }
        self.known = modules;
    }
}

/// Which targets are gone; each is said once.
#[derive(Default)]
pub(super) struct Gone {
    pids: HashSet<u32>,
    cgroups: HashSet<u64>,
    pid_namespaces: HashSet<u32>,
}

impl Gone {
    /// Whether there were targets, and none is left.
    pub(super) fn is_everything(&mut self, targets: &Targets) -> bool {
        for process in &targets.processes {
            if process.has_ended() && self.pids.insert(process.pid()) {
                sinks::announce(format_args!("process {} has ended", process.pid()));
            }
        }
        for cgroup in &targets.cgroups {
            if !cgroup.exists() && self.cgroups.insert(cgroup.id()) {
                sinks::announce(format_args!("cgroup {} was removed", cgroup.path().display()));
            }
        }
        for namespace in &targets.pid_namespaces {
            if namespace.has_ended() && self.pid_namespaces.insert(namespace.inum()) {
                sinks::announce(format_args!("PID namespace {} has ended", namespace.name()));
            }
        }
        // Named twice it is gone once.
        let namespaces: HashSet<u32> = targets.pid_namespaces.iter().map(PidNamespace::inum).collect();
        let all = targets.processes.len() + targets.cgroups.len() + namespaces.len();
        all > 0 && self.pids.len() + self.cgroups.len() + self.pid_namespaces.len() == all
    }
}

/// Has tokio watch a descriptor that becomes readable.
pub(super) fn watch<T: AsRawFd>(source: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: every source here owns its one descriptor, and gives it up when it is dropped, not before.
    Ok(unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) }?)
}

/// Has tokio watch for the end of a command.
pub(super) fn watch_process(command: &Command) -> io::Result<AsyncFd<OwnedFd>> {
    watch(command.as_fd().try_clone_to_owned()?)
}

/// Waits for a pidfd to say that its process has ended; for ever without one.
pub(super) async fn exited(pidfd: Option<&AsyncFd<OwnedFd>>) {
    match pidfd {
        Some(pidfd) => {
            // An error here would be one of epoll itself; then other ends of the run remain.
            if pidfd.readable().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Passes the eBPF side's diagnostics on to the log.
pub(super) fn forward_log(log: EbpfLogger<&'static dyn log::Log>) -> Result<JoinHandle<()>> {
    let mut log = watch(log).context("can't watch the eBPF log")?;
    Ok(tokio::task::spawn_local(async move {
        while let Ok(mut ready) = log.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }))
}
