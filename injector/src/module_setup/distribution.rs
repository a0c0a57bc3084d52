//! How a distribution's headers are installed.

/// What to do where a kernel has no headers, for the distribution that this os-release(5) is of.
pub fn remedy(os_release: &str, release: &str) -> String {
    let field = |name: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_default()
            .trim_matches('"')
    };
    let mut names = field("ID").split(' ').chain(field("ID_LIKE").split(' '));
    names.find_map(|name| command(name, release)).map_or_else(
        || "install the package that has them, or name a build tree with --kernel DIR".to_owned(),
        |command| format!("install them: {command}"),
    )
}

fn command(name: &str, release: &str) -> Option<String> {
    Some(match name {
        "debian" | "ubuntu" => format!("apt-get install linux-headers-{release}"),
        "fedora" | "rhel" | "centos" | "amzn" => format!("dnf install kernel-devel-{release}"),
        "opensuse" | "suse" | "sles" | "opensuse-tumbleweed" | "opensuse-leap" => {
            // 6.19.11-1-default
            let (version, flavour) = release.rsplit_once('-').unwrap_or((release, "default"));
            format!("zypper install kernel-{flavour}-devel={version}")
        }
        "arch" | "archlinux" => {
            // 6.18.3-1-lts, 7.2.1-zen1-1-zen, 7.2.1-arch1-1
            let flavour = release.rsplit('-').next().filter(|last| !last.starts_with(|c: char| c.is_ascii_digit()));
            match flavour {
                Some(flavour) => format!("pacman -S linux-{flavour}-headers"),
                None => "pacman -S linux-headers".to_owned(),
            }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distribution_has_its_package() {
        for (os, release, expected) in [
            ("ID=debian\n", "6.1.0-56-amd64", "apt-get install linux-headers-6.1.0-56-amd64"),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                "6.8.0-52-generic",
                "apt-get install linux-headers-6.8.0-52-generic",
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                "6.12.0-55.el10.x86_64",
                "dnf install kernel-devel-6.12.0-55.el10.x86_64",
            ),
            ("ID=\"opensuse-tumbleweed\"\n", "6.19.11-1-default", "zypper install kernel-default-devel=6.19.11-1"),
            ("ID=arch\n", "7.2.1-arch1-1", "pacman -S linux-headers"),
            ("ID=cachyos\nID_LIKE=arch\n", "6.18.3-1-lts", "pacman -S linux-lts-headers"),
        ] {
            assert_eq!(remedy(os, release), format!("install them: {expected}"), "{os}");
        }
        assert!(remedy("ID=alpine\n", "6.6").starts_with("install the package that has them"));
        assert!(remedy("", "6.6").ends_with("--kernel DIR"));
    }
}
