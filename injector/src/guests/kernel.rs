//! The kernel that guests boot, with its modules: what the user named, what lies beside an image, or a stock kernel of Debian.

use std::{
    fs,
    path::{Path, PathBuf},
};

use injector_guest::{Initramfs, root::RootError};
use injector_kernels::{
    BadInput, InstalledKernel, Missing, hooks, missing,
    selection::{NoSuchModules, Selection, Source, Wanted},
    tree,
};
use tempfile::TempDir;

use crate::{
    exit::{ExitCode, HasExitCode},
    plan::{
        suggest,
        sweep::{GuestKernel, Guests},
    },
};

/// What an engine boots.
#[derive(Debug, Default)]
pub struct BootedKernel {
    image: PathBuf,
    installed: Option<WithHooks>,
}

/// A kernel with modules, and those that its guests get.
#[derive(Debug)]
struct WithHooks {
    kernel: InstalledKernel,
    modules: Modules,
}

#[derive(Debug)]
enum Modules {
    /// All of this directory, but for hardware that no guest has. None: the kernel's own.
    All(Option<PathBuf>),
    /// These.
    Named(Selection),
}

/// The kernel can't be had, or its modules can't.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct KernelError(anyhow::Error);

impl HasExitCode for KernelError {
    fn exit_code(&self) -> ExitCode {
        let Self(error) = self;
        if error.is::<BadInput>() {
            ExitCode::USAGE
        } else if error.is::<Missing>() {
            ExitCode::MISSING
        } else {
            ExitCode::INTERNAL
        }
    }
}

impl BootedKernel {
    /// Finds the kernel and its modules: those that are named, with what they need; all if none are. A stock kernel is fetched,
    /// and injector_hooks built, if they are not there. `say` gets a line about what takes place.
    ///
    /// # Errors
    /// One of them can't be had. An image may do without injector_hooks.
    pub fn find(guests: &Guests, say: &dyn Fn(&str)) -> Result<Self, KernelError> {
        let (kernel, named) = (guests.kernel.as_ref(), guests.modules.as_slice());
        let is_stock = matches!(kernel, Some(GuestKernel::Stock(_)));
        let installed = match kernel {
            None => return Ok(Self::default()),
            Some(GuestKernel::Stock(stock)) => Some(stock.get(say).map_err(KernelError)?),
            Some(GuestKernel::Image { image, modules: None }) => InstalledKernel::of_image(image),
            Some(GuestKernel::Image { image, modules: Some(modules) }) => {
                Some(InstalledKernel::with_modules(image, modules).map_err(KernelError)?)
            }
        };
        let Some(kernel) = installed else { return Self::of_tree(kernel, named, say) };
        if let Some(config) = kernel.config.as_ref().and_then(|path| fs::read_to_string(path).ok())
            && let lacking = lacking(&config, &guests.options)
            && !lacking.is_empty()
        {
            let text =
                format!("the kernel {} lacks options that the workload needs: {}", kernel.release, lacking.join(", "));
            return Err(KernelError(missing(text)));
        }
        let modules = match hooks::modules_of(&kernel, say) {
            Ok(modules) => Some(modules),
            Err(error) if is_stock => return Err(KernelError(error)),
            // Some kernels have hooks of their own.
            Err(error) => {
                say(&format!("{} is not built for the guests: {error:#}", hooks::NAME));
                None
            }
        };
        let modules = if named.is_empty() {
            Modules::All(modules)
        } else {
            let from = modules.as_deref().unwrap_or(&kernel.modules);
            Modules::Named(select(&kernel, from, named, &[], say)?)
        };
        Ok(Self { image: kernel.image.clone(), installed: Some(WithHooks { kernel, modules }) })
    }

    /// An image that was not installed. If modules are named, they come from the tree that it was built in.
    fn of_tree(kernel: Option<&GuestKernel>, named: &[Wanted], say: &dyn Fn(&str)) -> Result<Self, KernelError> {
        let alone = Self::of_image(kernel);
        if named.is_empty() {
            return Ok(alone);
        }
        let Some(tree) = tree::of_image(&alone.image) else {
            say(&format!(
                "there are no modules beside {}; those of the workload must be part of it, or name a directory: --modules DIR",
                alone.image.display()
            ));
            return Ok(alone);
        };
        // It is needed until the selection is made.
        let (kernel, _root): (_, TempDir) = tree::kernel(&alone.image, &tree).map_err(KernelError)?;
        let kept = injector_kernels::cache_dir().join(hooks::DIRECTORY).join(&kernel.release);
        let extra = match hooks::build(&tree, &kept, say) {
            Ok(module) => vec![module],
            Err(error) => {
                say(&format!("{} is not built for the guests: {error:#}", hooks::NAME));
                Vec::new()
            }
        };
        let modules = Modules::Named(select(&kernel, &kernel.modules, named, &extra, say)?);
        Ok(Self { image: alone.image, installed: Some(WithHooks { kernel, modules }) })
    }

    /// The kernel for guests that have this machine's files: its image alone.
    pub fn of_image(kernel: Option<&GuestKernel>) -> Self {
        let image = kernel.and_then(GuestKernel::image);
        Self { image: image.map_or_else(PathBuf::new, Path::to_owned), installed: None }
    }

    /// What boots; nothing if the engine boots nothing.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The words that it needs on its command line.
    pub fn words(&self) -> Vec<String> {
        self.installed.as_ref().map(|installed| installed.kernel.words()).unwrap_or_default()
    }

    /// Puts its modules into a guest's root.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn put_into(&self, root: &mut Initramfs) -> Result<(), RootError> {
        let Some(WithHooks { kernel, modules }) = &self.installed else { return Ok(()) };
        match modules {
            Modules::All(from) => kernel.put_into(root, from.as_deref())?,
            Modules::Named(selection) => kernel.put_selection(root, selection)?,
        }
        Ok(())
    }
}

/// The modules that are named, with what they need.
fn select(
    kernel: &InstalledKernel,
    from: &Path,
    named: &[Wanted],
    extra: &[PathBuf],
    say: &dyn Fn(&str),
) -> Result<Selection, KernelError> {
    let source = Source { directory: from, release: &kernel.release, decompresses: kernel.decompresses(), extra };
    let selection = Selection::new(source, named).map_err(|error| match error.downcast_ref::<NoSuchModules>() {
        Some(lacking) => KernelError(missing(no_such_modules(&kernel.release, lacking))),
        None => KernelError(error),
    })?;
    say(&format!("the guests get {} modules of {}", selection.count, kernel.release));
    Ok(selection)
}

/// Which of these options a kernel does not have, neither in itself nor as modules.
fn lacking<'a>(config: &str, options: &'a [String]) -> Vec<&'a str> {
    let has = |option: &str| {
        let value = config.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='));
        value.is_some_and(|value| value != "n")
    };
    options.iter().map(String::as_str).filter(|option| !has(option)).collect()
}

/// Which modules a kernel lacks, and what is called like them.
fn no_such_modules(release: &str, NoSuchModules { unknown, known }: &NoSuchModules) -> String {
    let one = |wanted: &Wanted| {
        let text = wanted.to_string();
        let close = match wanted {
            Wanted::Module(name) => suggest::close(name, known.iter().map(String::as_str), 2),
            Wanted::IfThere(_) | Wanted::Below(_) => Vec::new(),
        };
        text + &suggest::did_you_mean(&close)
    };
    let names: Vec<String> = unknown.iter().map(one).collect();
    format!(
        "the kernel {release} has no module {} (of Debian's stock kernels, debian:7.3-amd64 has all modules, debian:7.3 those \
         for virtual machines)",
        names.join("; nor ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_be_modules() {
        let config = "CONFIG_NET_NS=y\nCONFIG_NVME_TARGET=m\n# CONFIG_KUNIT is not set\nCONFIG_NET_NS_X=y\n";
        let options = ["CONFIG_NET_NS", "CONFIG_NVME_TARGET", "CONFIG_KUNIT", "CONFIG_NET"].map(str::to_owned);
        assert_eq!(lacking(config, &options), ["CONFIG_KUNIT", "CONFIG_NET"]);
    }

    #[test]
    fn a_module_that_is_not_there_is_said_with_close_names() {
        let lacking = NoSuchModules {
            unknown: vec!["dm-mdo".parse().unwrap(), "sound/".parse().unwrap()],
            known: vec!["dm_mod".to_owned(), "ext4".to_owned()],
        };
        let text = no_such_modules("7.3", &lacking);
        assert!(
            text.starts_with("the kernel 7.3 has no module dm-mdo; did you mean dm_mod?; nor sound/ (of"),
            "{text}"
        );
    }
}
