//! `cargo xtask fixture`: writes down what a guest's kernel says of itself, for the tests that need no guest.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::guest_root::{self, Contents};
use crate::kernel::KernelChoice;
use crate::vm::{self, Guest};
use crate::{module, process};

/// Copies the files of the running kernel to /tmp/fixture and packs them: most have no size before they are read, so tar
/// can't. Of the slab caches only what the tests look at; links say which caches are merged.
const RECORD: &str = r#"
set -e
[ ! -f /lib/modules/injector_test.ko ] || insmod /lib/modules/injector_test.ko
take() { mkdir -p "/tmp/fixture/${1%/*}"; cat "/$1" > "/tmp/fixture/$1"; }
for file in proc/kallsyms proc/modules proc/mounts proc/slabinfo proc/config.gz proc/sys/kernel/osrelease \
    sys/kernel/btf/vmlinux sys/kernel/debug/error_injection/list sys/kernel/tracing/events/kmem/kmalloc/format
do
    take "$file"
done
mkdir -p /tmp/fixture/sys/kernel/slab
cd /sys/kernel/slab
for cache in *
do
    if [ -L "$cache" ]
    then ln -s "$(readlink "$cache")" "/tmp/fixture/sys/kernel/slab/$cache"
    else take "sys/kernel/slab/$cache/object_size"
    fi
done
tar -c -f /share/fixture.tar -C /tmp/fixture .
"#;

#[derive(Debug, Args)]
#[command(after_help = "Writes injector/tests/data/RELEASE, cut down to what injector/tests/kernels.rs looks at \
(injector/tests/fixture). A directory that is there already is written anew; `git diff` shows what has changed.")]
pub struct Fixture {
    /// Guest kernel, repeatable, as for `cargo xtask kernel`
    #[arg(required = true)]
    kernel: Vec<KernelChoice>,
}

impl Fixture {
    pub fn run(&self) -> Result<()> {
        self.kernel.iter().try_for_each(record)
    }
}

fn record(kernel: &KernelChoice) -> Result<()> {
    let found = kernel.find()?;
    let built = found
        .built
        .as_ref()
        .context("a fixture needs a guest kernel of the project's, for the test module: 7.3, 6.1…")?;
    let modules = module::build(built).unwrap_or_else(|error| {
        eprintln!("fixture: {kernel} has no test modules in it, they do not compile: {error:#}");
        Vec::new()
    });
    let contents = Contents { modules, ..Contents::default() };
    let guest = Guest::new(&found, &guest_root::build(&contents)?)?;
    let share = tempfile::tempdir().context("can't make a directory")?;
    let mut machine = guest.machine(&format!("{kernel}-fixture"))?;
    machine.share = Some(share.path().to_owned());
    // The tests of merged caches are about this.
    machine.append = vec!["slab_merge".to_owned()];
    let status = vm::boot(&machine, &injector_guest::Command::new(["sh", "-c", RECORD]))?;
    if status != 0 {
        bail!("the guest with {kernel} recorded nothing: status {status}");
    }
    process::run(Command::new("tar").arg("-xf").arg(share.path().join("fixture.tar")).arg("-C").arg(share.path()))?;
    // What is kept is written beside the tests that look at it.
    let mut cut_down = process::cargo();
    cut_down.args([
        "test",
        "--quiet",
        "--package",
        "injector",
        "--test",
        "kernels",
        "--",
        "--ignored",
        "--exact",
        "make",
    ]);
    process::run(cut_down.env("INJECTOR_FIXTURE", share.path()))
}
