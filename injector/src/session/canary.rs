//! Proof that an attached hook is called: an allocation of our own must reach it. A kernel may have the function and
//! call a clone of it, or have compiled the calls away (KERNEL: 6.8 to 6.10 with FAILSLAB=n).

use std::{fs::File, num::NonZeroUsize};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use tracing::warn;

use super::Attached;
use crate::{bpf, exit::Result, kernel::hooks::Attach, plan::Hook};

/// A hook that is attached and never called.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// The kernel calls something else.
    #[error(
        "{function} is attached, but allocations don't reach it: this kernel calls a clone of it or has compiled the call away; \
         use a kernel with {option}=y, or the module injector_hooks (injector module install), or boot the guest: cargo xtask run"
    )]
    Function {
        /// The hook's function.
        function: &'static str,
        /// The option that makes the kernel call it.
        option: &'static str,
    },
    /// ftrace does not call the module, or the module does not come to ask.
    #[error(
        "the module injector_hooks has hooked {0}, but allocations don't reach it: this is a defect of the module; \
         leave the hook out (--hook), or boot the guest: cargo xtask run"
    )]
    Module(Hook),
}

crate::exit::has_exit_code!(CanaryError => MISSING);

/// How many allocations of each kind are made: one would do, if all went to this CPU's program.
const ALLOCATIONS: usize = 16;

/// Allocates, and sees that each attached hook's program ran. It is the kernel that counts: a program itself counts the calls
/// of its target only.
pub(super) fn prove(rules: &[Attached]) -> Result<()> {
    let _counting = match bpf::count_runs() {
        Ok(counting) => counting,
        Err(error) => {
            warn!(
                "the kernel doesn't count how often programs run, so whether the hooks are called is not known: {error}"
            );
            return Ok(());
        }
    };
    rules.iter().try_for_each(prove_rule)
}

fn prove_rule(rule: &Attached) -> Result<()> {
    for (hook, attach) in rule.attached() {
        let before = rule.runs(hook)?;
        match hook {
            Hook::Slab => allocate_from_slab()?,
            Hook::Page => allocate_pages()?,
            // Nothing that is always there calls them: whether they work, the first failure shows.
            _ => continue,
        }
        if rule.runs(hook)? > before {
            continue;
        }
        return Err(match attach {
            Attach::Module => CanaryError::Module(hook),
            Attach::Kprobe | Attach::FmodRet { .. } => CanaryError::Function {
                function: hook.function(),
                option: hook.needs().map_or("CONFIG_FUNCTION_ERROR_INJECTION", |needs| needs.option),
            },
        }
        .into());
    }
    Ok(())
}

/// Each open file is an object of the `filp` cache.
fn allocate_from_slab() -> Result<()> {
    for _ in 0..ALLOCATIONS {
        File::open("/dev/null")?;
    }
    Ok(())
}

/// Each fresh page that is written to is one from the page allocator.
fn allocate_pages() -> Result<()> {
    const PAGE: usize = 4096;
    let length = NonZeroUsize::MIN.saturating_add(ALLOCATIONS * PAGE - 1);
    // SAFETY: a fresh private mapping, written to within its bounds and unmapped; nobody else knows of it.
    unsafe {
        let memory = mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)?;
        for page in 0..ALLOCATIONS {
            memory.cast::<u8>().add(page * PAGE).write_volatile(1);
        }
        munmap(memory, length.get())?;
    }
    Ok(())
}
