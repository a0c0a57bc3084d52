//! The kernel that guests boot, with its modules: what the user named, what lies beside an image, or a stock kernel of Debian.

use std::path::{Path, PathBuf};

use injector_guest::{Initramfs, root::RootError};
use injector_kernels::{BadInput, InstalledKernel, Missing, hooks};

use crate::{
    exit::{ExitCode, HasExitCode},
    plan::sweep::GuestKernel,
};

/// What an engine boots.
#[derive(Debug, Default)]
pub struct BootedKernel {
    image: PathBuf,
    installed: Option<WithHooks>,
}

/// A distribution's kernel, and the directory of modules that its guests get.
#[derive(Debug)]
struct WithHooks {
    kernel: InstalledKernel,
    modules: Option<PathBuf>,
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
    /// Finds the kernel and its modules. A stock kernel is fetched, and injector_hooks built, if they are not there. `say` gets
    /// a line about what takes place.
    ///
    /// # Errors
    /// One of them can't be had. An image may do without injector_hooks.
    pub fn find(kernel: Option<&GuestKernel>, say: &dyn Fn(&str)) -> Result<Self, KernelError> {
        let is_stock = matches!(kernel, Some(GuestKernel::Stock(_)));
        let installed = match kernel {
            None => return Ok(Self::default()),
            Some(GuestKernel::Stock(stock)) => Some(stock.get(say).map_err(KernelError)?),
            Some(GuestKernel::Image { image, modules: None }) => InstalledKernel::of_image(image),
            Some(GuestKernel::Image { image, modules: Some(modules) }) => {
                Some(InstalledKernel::with_modules(image, modules).map_err(KernelError)?)
            }
        };
        let Some(kernel) = installed else { return Ok(Self::of_image(kernel)) };
        let modules = match hooks::modules_of(&kernel, say) {
            Ok(modules) => Some(modules),
            Err(error) if is_stock => return Err(KernelError(error)),
            // Some kernels have hooks of their own.
            Err(error) => {
                say(&format!("{} is not built for the guests: {error:#}", hooks::NAME));
                None
            }
        };
        Ok(Self { image: kernel.image.clone(), installed: Some(WithHooks { kernel, modules }) })
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
        Ok(kernel.put_into(root, modules.as_deref())?)
    }
}
