//! The cgroup of a container. Container runtimes name it after the container's id:
//!
//! | who | below /sys/fs/cgroup |
//! |---|---|
//! | Docker | `system.slice/docker-ID.scope`, `docker/ID` |
//! | Podman | `machine.slice/libpod-ID.scope`, in `user.slice/…` of a user |
//! | Kubernetes with containerd | `kubepods.slice/…/cri-containerd-ID.scope`, `kubepods/burstable/podUID/ID` |
//! | Kubernetes with CRI-O | `kubepods.slice/…/crio-ID.scope` |
//! | LXC, systemd-nspawn, machinectl | `lxc.payload.NAME`, `machine.slice/systemd-nspawn@NAME.service`, `machine.slice/machine-NAME.scope` |

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::TargetError;
use crate::plan::{ContainerName, suggest};

/// Digits of a container's id.
const DIGITS: usize = 64;
/// Digits of an id that are shown, as the runtimes do.
const SHOWN: usize = 12;
/// Containers that a message lists.
const LISTED: usize = 5;
/// Cgroups are not looked for deeper.
const DEEPEST: usize = 32;

/// What a directory of the cgroup tree says of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label<'a> {
    /// Its id.
    Id(&'a str),
    /// Its name.
    Name(&'a str),
}

impl<'a> Label<'a> {
    /// That of a directory with this name; none: it is no container's.
    fn of(directory: &'a str) -> Option<Self> {
        let stem = [".scope", ".service", ".slice"].iter().find_map(|unit| directory.strip_suffix(unit));
        let stem = stem.unwrap_or(directory);
        let names = ["lxc.payload.", "machine-", "systemd-nspawn@"];
        if let Some(name) = names.iter().find_map(|before| stem.strip_prefix(before)).filter(|name| !name.is_empty()) {
            return Some(Self::Name(name));
        }
        let at = stem.len().checked_sub(DIGITS).filter(|at| stem.is_char_boundary(*at))?;
        let (before, id) = stem.split_at(at);
        let is_id = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let ends = before.is_empty() || before.ends_with(['-', '_', '.', ':']);
        // conmon watches a container of Podman or CRI-O from outside.
        (is_id && ends && !before.contains("conmon")).then_some(Self::Id(id))
    }

    fn is_meant(self, name: &ContainerName) -> bool {
        match self {
            Self::Id(id) => name.is_hexadecimal() && id.starts_with(name.as_str()),
            // systemd escapes what separates the parts of a unit's name.
            Self::Name(label) => label.replace("\\x2d", "-") == name.as_str(),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Id(id) => id[..SHOWN].to_owned(),
            Self::Name(name) => name.replace("\\x2d", "-"),
        }
    }
}

/// The directory of the container's cgroup.
///
/// # Errors
/// There is none, or several.
pub(super) fn find(mount: &Path, name: &ContainerName) -> Result<PathBuf, TargetError> {
    let mut directories = Vec::new();
    collect(mount, 0, &mut directories);
    choose(mount, &directories, name)
}

/// All directories below one, parents first.
fn collect(directory: &Path, depth: usize, to: &mut Vec<PathBuf>) {
    // One that is removed meanwhile is none.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        to.push(entry.path());
        if depth < DEEPEST {
            collect(&entry.path(), depth + 1, to);
        }
    }
}

/// The one directory that is meant. Of directories inside of each other it is the outermost: a container's cgroup holds those
/// that the container makes.
fn choose(mount: &Path, directories: &[PathBuf], name: &ContainerName) -> Result<PathBuf, TargetError> {
    let labelled: Vec<(&Path, Label<'_>)> =
        directories.iter().filter_map(|path| Some((path.as_path(), Label::of(path.file_name()?.to_str()?)?))).collect();
    let all: Vec<&(&Path, Label<'_>)> = labelled.iter().filter(|(_, label)| label.is_meant(name)).collect();
    let is_inner = |path: &Path| all.iter().any(|(outer, _)| *outer != path && path.starts_with(outer));
    let mut meant: Vec<&Path> = all.iter().map(|(path, _)| *path).filter(|path| !is_inner(path)).collect();
    meant.sort_unstable();
    match meant.as_slice() {
        [] => Err(TargetError::new(unknown(mount, &labelled, name))),
        [one] => Ok((*one).to_owned()),
        several => {
            let shown: Vec<String> = several
                .iter()
                .take(LISTED)
                .map(|path| path.strip_prefix(mount).unwrap_or(path).display().to_string())
                .collect();
            let more = several.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Err(TargetError::new(format!(
                "--container {name} could be {} containers: {}{more}; write more of the id, or the directory with --cgroup",
                several.len(),
                shown.join(", ")
            )))
        }
    }
}

fn unknown(mount: &Path, labelled: &[(&Path, Label<'_>)], name: &ContainerName) -> String {
    let mut message = format!("no container `{name}` has a cgroup below {}", mount.display());
    let is_close = |label: &Label<'_>| {
        // As much of the id as was given.
        let text = match *label {
            Label::Id(id) => id[..name.as_str().len().clamp(1, DIGITS)].to_owned(),
            name => name.shown(),
        };
        !suggest::close(name.as_str(), [text.as_str()], 1).is_empty()
    };
    let list = |labels: Vec<Label<'_>>| {
        let mut shown: Vec<String> = labels.into_iter().map(Label::shown).collect();
        shown.sort_unstable();
        shown.dedup();
        shown.truncate(LISTED);
        shown
    };
    let close = list(labelled.iter().map(|(_, label)| *label).filter(is_close).collect());
    let all = list(labelled.iter().map(|(_, label)| *label).collect());
    if !close.is_empty() {
        message += &suggest::did_you_mean(&close);
    } else if all.is_empty() {
        message += "; there is no container's cgroup at all";
    } else {
        message += &format!("; there are {}{}", all.join(", "), if labelled.len() > LISTED { "…" } else { "" });
    }
    if !name.is_hexadecimal() {
        message += "; names of Docker, Podman and Kubernetes are not in the cgroup tree: take the id, as docker inspect -f '{{.Id}}' NAME prints it";
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3f2a9c12b4d5e6f708192a3b4c5d6e7f3f2a9c12b4d5e6f708192a3b4c5d6e7f";
    const B: &str = "3f2b000000000000000000000000000000000000000000000000000000000000";
    const C: &str = "beef000000000000000000000000000000000000000000000000000000000000";

    fn tree() -> Vec<PathBuf> {
        let below = [
            format!("system.slice/docker-{A}.scope"),
            // What runs in a container of its own, and what watches from outside.
            format!("system.slice/docker-{A}.scope/system.slice/docker-{C}.scope"),
            format!("machine.slice/libpod-{B}.scope"),
            format!("machine.slice/libpod-{B}.scope/container"),
            format!("machine.slice/libpod-conmon-{B}.scope"),
            "machine.slice/systemd-nspawn@web\\x2done.service".to_owned(),
            "lxc.payload.mysql".to_owned(),
            "system.slice/nginx.service".to_owned(),
        ];
        below.iter().map(|path| Path::new("/cg").join(path)).collect()
    }

    fn chosen(name: &str) -> Result<String, String> {
        let path = choose(Path::new("/cg"), &tree(), &name.parse().unwrap());
        path.map(|path| path.display().to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_layouts_of_the_runtimes() {
        let id = |directory: &str| Label::of(directory).map(Label::shown);
        let short = Some(A[..12].to_owned());
        for directory in [
            A.to_owned(),
            format!("docker-{A}.scope"),
            format!("libpod-{A}.scope"),
            format!("cri-containerd-{A}.scope"),
            format!("crio-{A}.scope"),
            format!("kata_{A}"),
        ] {
            assert_eq!(id(&directory), short, "{directory}");
        }
        for directory in
            [format!("libpod-conmon-{A}.scope"), format!("crio-conmon-{A}.scope"), format!("x{A}"), A[1..].to_owned()]
        {
            assert_eq!(id(&directory), None, "{directory}");
        }
        assert_eq!(id("machine-vm.scope").as_deref(), Some("vm"));
        assert_eq!(id("nginx.service"), None);
        assert_eq!(id("ä".repeat(40).as_str()), None);
    }

    #[test]
    fn one_is_found_by_the_beginning_of_its_id_or_by_its_name() {
        assert_eq!(chosen("3f2a"), Ok(format!("/cg/system.slice/docker-{A}.scope")));
        assert_eq!(chosen(A), chosen("3f2a"));
        assert_eq!(chosen("docker://3f2a9c"), chosen("3f2a"));
        assert_eq!(chosen("3f2b"), Ok(format!("/cg/machine.slice/libpod-{B}.scope")));
        assert_eq!(chosen("beef"), Ok(format!("/cg/system.slice/docker-{A}.scope/system.slice/docker-{C}.scope")));
        assert_eq!(chosen("web-one"), Ok("/cg/machine.slice/systemd-nspawn@web\\x2done.service".to_owned()));
        assert_eq!(chosen("mysql"), Ok("/cg/lxc.payload.mysql".to_owned()));
    }

    #[test]
    fn an_unknown_one_is_refused_with_close_ones() {
        let error = chosen("3f2c9c12").unwrap_err();
        assert_eq!(error, "no container `3f2c9c12` has a cgroup below /cg; did you mean 3f2a9c12b4d5?");
        let error = chosen("0123456789").unwrap_err();
        assert_eq!(
            error,
            "no container `0123456789` has a cgroup below /cg; there are 3f2a9c12b4d5, 3f2b00000000, beef00000000, mysql, web-one"
        );
        assert!(chosen("nginx").unwrap_err().contains("take the id, as docker inspect -f '{{.Id}}' NAME prints it"));
        let none = choose(Path::new("/cg"), &[], &"3f2a".parse().unwrap()).unwrap_err().to_string();
        assert!(none.ends_with("; there is no container's cgroup at all"), "{none}");
    }

    #[test]
    fn an_ambiguous_one_is_refused_with_all_that_it_could_be() {
        let tree: Vec<PathBuf> =
            [A, B].iter().map(|id| Path::new("/cg/docker").join(id.replacen("3f2b", "3f2a", 1))).collect();
        let error = choose(Path::new("/cg"), &tree, &"3f2a".parse().unwrap()).unwrap_err().to_string();
        let (one, two) = (A, B.replacen("3f2b", "3f2a", 1));
        assert_eq!(
            error,
            format!(
                "--container 3f2a could be 2 containers: docker/{two}, docker/{one}; write more of the id, or the directory with --cgroup"
            )
        );
    }

    #[test]
    fn the_tree_is_walked() {
        let root = tempfile::tempdir().unwrap();
        let wanted = root.path().join(format!("kubepods.slice/pod1/cri-containerd-{A}.scope"));
        fs::create_dir_all(&wanted).unwrap();
        fs::write(root.path().join("kubepods.slice/cgroup.procs"), "").unwrap();
        assert_eq!(find(root.path(), &"3f2a9c".parse().unwrap()).ok(), Some(wanted));
    }
}
