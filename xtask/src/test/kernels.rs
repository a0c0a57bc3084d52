//! Which kernels a test run uses, and how much of it each of them gets.
//!
//! The first run on a new machine has an hour, and each kernel takes about 12 minutes to build and 10 to 15 to test on two
//! processors. So the first run builds the newest kernel only. The oldest gets all tests too, and the one in between a few, where
//! somebody has built them already. Stock kernels are fetched, not built; they get tests of their own.

use injector_kernels::{Series, Stock};

use super::guests::Backend;
use crate::kernel::{KernelChoice, MIDDLE, NEWEST, OLDEST, Spec};

/// The tests of the series between the newest and the oldest: how the hooks are attached, in all ways, and a sweep.
const FEW: [(&str, Backend); 4] = [
    ("backend_choice", Backend::Auto),
    ("backend_choice", Backend::FmodRet),
    ("hooks_module", Backend::Auto),
    ("sweep", Backend::Auto),
];

/// By default these are run by fmod_ret too, on one kernel: they say most about a hook's path.
const BY_FMOD_RET_TOO: [&str; 4] = ["policy", "outcome", "order", "backend_choice"];

/// The same by the module injector_hooks.
const BY_MODULE_TOO: [&str; 5] = ["hooks", "guards", "policy", "target", "lifetime"];

/// On the first kernel only: it takes minutes, and what it shows depends little on the version.
const ON_ONE_KERNEL: &str = "stress";

/// The tests of stock kernels.
const STOCK: &str = "stock";

/// How much of the tests a kernel gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All, and what has to be run on one kernel only: the planted defects' sweep, some tests by fmod_ret and by the module.
    First,
    All,
    Few,
    /// A stock kernel gets the tests that are made for it.
    Stock,
}

impl Extent {
    /// Whether the kernel is one of ours that gets all tests.
    pub fn is_of_ours(self) -> bool {
        matches!(self, Self::First | Self::All)
    }

    /// Whether a kernel of this extent runs a test binary, when the injector attaches so. `asked`: the backends that the
    /// user has named.
    pub fn runs(self, binary: &str, backend: Backend, asked: &[Backend]) -> bool {
        match (self, backend) {
            (Self::Stock, _) => binary == STOCK && backend == Backend::Auto,
            _ if binary == STOCK => false,
            (Self::All | Self::Few, _) if binary == ON_ONE_KERNEL => false,
            (Self::Few, _) if asked.is_empty() => FEW.contains(&(binary, backend)),
            (Self::Few, _) => asked.contains(&backend) && FEW.iter().any(|(name, _)| *name == binary),
            _ if !asked.is_empty() => asked.contains(&backend),
            (_, Backend::Auto) => true,
            (Self::First, Backend::FmodRet) => BY_FMOD_RET_TOO.contains(&binary),
            (Self::First, Backend::Module) => BY_MODULE_TOO.contains(&binary),
            (_, Backend::FmodRet | Backend::Kprobe | Backend::Module) => false,
        }
    }
}

/// What a run uses, and what it leaves out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kernels {
    pub used: Vec<(KernelChoice, Extent)>,
    /// To be said at the end.
    pub left_out: Vec<String>,
}

impl Kernels {
    /// Those that the user has named, all tests on each.
    pub fn named(kernels: &[KernelChoice]) -> Self {
        let mut extents = std::iter::once(Extent::First).chain(std::iter::repeat(Extent::All));
        let extent = |kernel: &KernelChoice| match kernel {
            KernelChoice::Stock(_) => Extent::Stock,
            _ => extents.next().unwrap_or(Extent::All),
        };
        Self { used: kernels.iter().cloned().zip(kernels.iter().map(extent)).collect(), left_out: Vec::new() }
    }

    /// Without a name. `all`: also the kernels that must be built for it.
    pub fn default(all: bool) -> Self {
        Self::with(|series| all || is_built(series))
    }

    fn with(wanted: impl Fn(Series) -> bool) -> Self {
        let ours = [(NEWEST, Extent::First), (OLDEST, Extent::All), (MIDDLE, Extent::Few)];
        let (used, left_out): (Vec<_>, Vec<_>) =
            ours.into_iter().partition(|(series, _)| *series == NEWEST || wanted(*series));
        let guest = |(series, extent)| (KernelChoice::Guest(Spec::plain(series)), extent);
        let stock = [NEWEST, MIDDLE, OLDEST].map(|series| (KernelChoice::Stock(Stock::from(series)), Extent::Stock));
        let used = used.into_iter().map(guest).chain(stock).collect();
        let said = |(series, _): &(Series, Extent)| {
            format!(
                "kernel {series} was left out: it is not built here. `cargo xtask kernel {series}` builds it for the next \
                 run, --all builds it in this one (12 minutes)"
            )
        };
        let left_out = left_out.iter().map(said).collect();
        Self { used, left_out }
    }
}

fn is_built(series: Series) -> bool {
    Spec::plain(series).cached().is_some()
}

/// The kernels whose programs are measured by default: the newest, and the others that are built.
pub fn measured() -> Vec<KernelChoice> {
    let used = Kernels::default(false).used.into_iter();
    used.filter(|(_, extent)| *extent != Extent::Stock).map(|(kernel, _)| kernel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    fn names(kernels: &Kernels) -> Vec<(String, Extent)> {
        kernels.used.iter().map(|(kernel, extent)| (kernel.to_string(), *extent)).collect()
    }

    #[test]
    fn only_the_newest_is_built_for_a_test_run() {
        let newest = ("7.3".to_owned(), Extent::First);
        let others = [("6.1".to_owned(), Extent::All), ("6.12".to_owned(), Extent::Few)];
        let stock = ["debian:7.3", "debian:6.12", "debian:6.1"].map(|name| (name.to_owned(), Extent::Stock));
        let without = Kernels::with(|_| false);
        assert_eq!(names(&without), [std::slice::from_ref(&newest), &stock[..]].concat());
        assert_eq!(without.left_out.len(), 2);
        for (text, kernel) in without.left_out.iter().zip(["6.1", "6.12"]) {
            assert!(text.starts_with(&format!("kernel {kernel} was left out")), "{text}");
            assert!(text.contains(&format!("`cargo xtask kernel {kernel}`")), "{text}");
        }
        let with = Kernels::with(|_| true);
        assert_eq!(names(&with), [&[newest], &others[..], &stock[..]].concat());
        assert!(with.left_out.is_empty());
    }

    #[test]
    fn named_kernels_get_everything() {
        let kernels = ["debian:6.1", "6.12", "7.3-debug", "5.10"].map(|name| name.parse().expect("a kernel"));
        let extents = Kernels::named(&kernels).used.into_iter().map(|(_, extent)| extent);
        assert_eq!(extents.collect::<Vec<_>>(), [Extent::Stock, Extent::First, Extent::All, Extent::All]);
    }

    #[test]
    fn each_extent_has_its_tests() {
        use Backend::{Auto, FmodRet, Kprobe, Module};
        let runs = |extent: Extent, binary, asked: &[Backend]| {
            [Auto, Kprobe, FmodRet, Module].map(|backend| extent.runs(binary, backend, asked))
        };
        assert_eq!(runs(Extent::First, "policy", &[]), [true, false, true, true]);
        assert_eq!(runs(Extent::First, "gfp", &[]), [true, false, false, false]);
        assert_eq!(runs(Extent::All, "policy", &[]), [true, false, false, false]);
        assert_eq!(runs(Extent::All, "policy", &[Kprobe]), [false, true, false, false]);
        assert_eq!(runs(Extent::Few, "backend_choice", &[]), [true, false, true, false]);
        assert_eq!(runs(Extent::Few, "sweep", &[]), [true, false, false, false]);
        assert_eq!(runs(Extent::Few, "sweep", &[FmodRet]), [false, false, true, false]);
        assert_eq!(runs(Extent::Few, "policy", &[Auto]), [false, false, false, false]);
        assert_eq!(runs(Extent::Stock, "stock", &[]), [true, false, false, false]);
        assert_eq!(runs(Extent::Stock, "policy", &[]), [false, false, false, false]);
        assert_eq!(runs(Extent::All, "stock", &[]), [false, false, false, false]);
        assert_eq!(runs(Extent::First, "stress", &[]), [true, false, false, false]);
        assert_eq!(runs(Extent::All, "stress", &[]), [false, false, false, false]);
    }

    #[test]
    fn named_tests_exist() {
        for name in FEW
            .iter()
            .map(|(name, _)| name)
            .chain(&BY_FMOD_RET_TOO)
            .chain(&BY_MODULE_TOO)
            .chain([&STOCK, &ON_ONE_KERNEL])
        {
            let file = process::workspace().join(format!("tests/tests/{name}.rs"));
            assert!(file.is_file(), "{}", file.display());
        }
    }
}
