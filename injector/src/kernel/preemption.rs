//! Whether the kernel takes the CPU from a task that is in the kernel.

use super::{KernelFiles, Options};

/// The modes of a kernel that can have any, the one that it is in in parentheses: `none (voluntary) full`
/// (sched_dynamic_show(), kernel/sched/debug.c, 6.1 and 6.12).
const MODES: &str = "sys/kernel/debug/sched/preempt";

/// Whether tasks are preempted in the kernel. One that does not tell its mode is taken for one that does it.
#[must_use]
pub fn is_preemptible(files: &KernelFiles, options: &Options) -> bool {
    if !options.is_on("CONFIG_PREEMPTION") {
        return false;
    }
    if !options.is_on("CONFIG_PREEMPT_DYNAMIC") {
        return true;
    }
    let modes = files.read_text(MODES).unwrap_or_default();
    !matches!(mode(&modes), Some("none" | "voluntary"))
}

/// The mode in parentheses.
fn mode(modes: &str) -> Option<&str> {
    modes.split_once('(')?.1.split_once(')').map(|(mode, _)| mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_preemptible_with(config: &str, modes: Option<&str>) -> bool {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("proc/sys/kernel/osrelease", "6.12.0\n");
        write("boot/config-6.12.0", config);
        modes.iter().for_each(|modes| write(MODES, modes));
        let files = KernelFiles::new(root.path());
        is_preemptible(&files, &Options::read(&files).unwrap())
    }

    #[test]
    fn options_decide_where_there_is_one_mode() {
        assert!(!is_preemptible_with("CONFIG_PREEMPT_VOLUNTARY=y\n", None));
        assert!(is_preemptible_with("CONFIG_PREEMPTION=y\n# CONFIG_PREEMPT_DYNAMIC is not set\n", None));
    }

    #[test]
    fn the_mode_decides_where_there_are_more() {
        const DYNAMIC: &str = "CONFIG_PREEMPTION=y\nCONFIG_PREEMPT_DYNAMIC=y\n";
        assert!(is_preemptible_with(DYNAMIC, Some("none voluntary (full) \n")));
        assert!(!is_preemptible_with(DYNAMIC, Some("none (voluntary) full \n")));
        assert!(!is_preemptible_with(DYNAMIC, Some("(none) voluntary full \n")));
        assert!(is_preemptible_with(DYNAMIC, Some("none voluntary full (lazy) \n")));
        assert!(is_preemptible_with(DYNAMIC, None), "in doubt it is");
        assert!(is_preemptible_with(DYNAMIC, Some("")));
    }
}
