//! Whether this process sees processes and cgroups as the kernel side does. In a container it does not, unless the container
//! shares the host's namespaces.

use super::{Caller, Check, GUEST};
use crate::kernel::KernelFiles;

/// The inode number of the first PID namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
/// The same of the first cgroup namespace (PROC_CGROUP_INIT_INO).
const INITIAL_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

pub(super) fn pid_namespace(caller: &Caller) -> Check {
    let name = "pid namespace";
    match &caller.pid_namespace {
        Some(namespace) if namespace == INITIAL_PID_NAMESPACE => Check::found(name, "the initial one"),
        Some(namespace) => Check::missing(
            name,
            format!("{namespace} is not the initial one: process ids here are not those that the kernel side sees"),
            format!(
                "run it on the host, or in a container that shares the host's: --pid=host of Docker and Podman, hostPID of Kubernetes; {GUEST}"
            ),
        ),
        None => Check::unknown(name, "/proc/self/ns/pid can't be read"),
    }
}

pub(super) fn cgroup(files: &KernelFiles) -> Check {
    let name = "cgroup v2";
    match files.mounts().into_iter().find(|mount| mount.fs == "cgroup2") {
        Some(mount) => Check::found(name, mount.at.display().to_string()),
        None => Check::missing(
            name,
            "not mounted (needed for --cgroup, --container and for a command)",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        ),
    }
}

pub(super) fn cgroup_namespace(caller: &Caller) -> Check {
    let name = "cgroup namespace";
    match &caller.cgroup_namespace {
        Some(namespace) if namespace == INITIAL_CGROUP_NAMESPACE => Check::found(name, "the initial one"),
        Some(namespace) => Check::missing(
            name,
            format!(
                "{namespace} is not the initial one: cgroups here have other places than the kernel side sees (needed for --cgroup, --container and for a command)"
            ),
            "run it on the host, or in a container with --cgroupns=host; --pidns, --pid and the whole machine work as they are",
        ),
        None => Check::unknown(name, "/proc/self/ns/cgroup can't be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Presence;

    fn caller(pid: Option<&str>, cgroup: Option<&str>) -> Caller {
        Caller {
            uid: 0,
            capabilities: None,
            pid_namespace: pid.map(str::to_owned),
            cgroup_namespace: cgroup.map(str::to_owned),
        }
    }

    #[test]
    fn a_container_is_told_by_its_namespaces() {
        let host = caller(Some(INITIAL_PID_NAMESPACE), Some(INITIAL_CGROUP_NAMESPACE));
        assert_eq!((pid_namespace(&host).state, cgroup_namespace(&host).state), (Presence::Found, Presence::Found));
        let container = caller(Some("pid:[4026532501]"), Some("cgroup:[4026532502]"));
        let (pid, cgroup) = (pid_namespace(&container), cgroup_namespace(&container));
        assert_eq!((pid.state, cgroup.state), (Presence::Missing, Presence::Missing));
        assert!(pid.remedy.unwrap().contains("--pid=host of Docker and Podman, hostPID of Kubernetes"));
        assert!(cgroup.detail.contains("needed for --cgroup, --container and for a command"));
        assert!(cgroup.remedy.unwrap().contains("--cgroupns=host; --pidns, --pid and the whole machine work"));
        let unknown = caller(None, None);
        assert_eq!(
            (pid_namespace(&unknown).state, cgroup_namespace(&unknown).state),
            (Presence::Unknown, Presence::Unknown)
        );
    }
}
