//! Names for addresses. The symbols are read once, beside the run: making their text costs the kernel more than
//! everything else that happens at start.

use std::{
    collections::HashMap,
    rc::Rc,
    thread::{self, JoinHandle},
};

use injector_common::record::SiteRecord;
use tracing::warn;

use crate::kernel::{KernelError, KernelFiles, kallsyms::Kallsyms};

/// Names stacks, each site's once.
#[derive(Debug)]
pub struct Symbolizer {
    symbols: Symbols,
    /// Sites that were heard of and not asked for yet.
    sites: HashMap<u64, Box<SiteRecord>>,
    stacks: HashMap<u64, Rc<[String]>>,
}

#[derive(Debug)]
enum Symbols {
    /// A thread reads them.
    Loading(JoinHandle<Result<Kallsyms, KernelError>>),
    Loaded(Kallsyms),
    /// Reading failed, which was said; addresses have to do.
    None,
}

impl Symbolizer {
    /// Begins to read the symbols in the background.
    #[must_use]
    pub fn load(files: KernelFiles) -> Self {
        let symbols = thread::Builder::new().name("symbols".into()).spawn(move || Kallsyms::read(&files));
        let symbols = match symbols {
            Ok(thread) => Symbols::Loading(thread),
            Err(error) => {
                warn!("can't start a thread to read symbols, stacks will be addresses: {error}");
                Symbols::None
            }
        };
        Self { symbols, sites: HashMap::new(), stacks: HashMap::new() }
    }

    /// With symbols that have been read already.
    #[must_use]
    pub fn new(symbols: Kallsyms) -> Self {
        Self { symbols: Symbols::Loaded(symbols), sites: HashMap::new(), stacks: HashMap::new() }
    }

    /// Takes note of a new site.
    pub fn remember(&mut self, site: Box<SiteRecord>) {
        self.sites.insert(site.signature, site);
    }

    /// The site's stack by names: `symbol+0x1f`, and `symbol+0x1f [module]` in modules. `site` is only asked when nothing was
    /// heard of it.
    pub fn stack(&mut self, signature: u64, site: impl FnOnce() -> Option<SiteRecord>) -> Rc<[String]> {
        if let Some(stack) = self.stacks.get(&signature) {
            return stack.clone();
        }
        let known = self.sites.remove(&signature).map(|site| *site);
        let Some(site) = known.or_else(site) else { return Rc::from([]) };
        let length = (site.frames_len as usize).min(site.frames.len());
        let symbols = self.symbols.get();
        let stack: Rc<[String]> = site.frames[..length].iter().map(|address| name(symbols, *address)).collect();
        self.stacks.insert(signature, stack.clone());
        stack
    }

    /// A stack as the kernel prints it, see [`Kallsyms::with_lengths`].
    pub fn with_lengths(&mut self, stack: &[String]) -> Vec<String> {
        self.symbols.get().map_or_else(|| stack.to_vec(), |symbols| symbols.with_lengths(stack))
    }
}

impl Symbols {
    fn get(&mut self) -> Option<&Kallsyms> {
        if let Self::Loading(_) = self
            && let Self::Loading(thread) = std::mem::replace(self, Self::None)
        {
            match thread.join() {
                Ok(Ok(symbols)) => *self = Self::Loaded(symbols),
                Ok(Err(error)) => warn!("stacks will be addresses: {error}"),
                Err(_) => warn!("stacks will be addresses: reading the symbols panicked"),
            }
        }
        match self {
            Self::Loaded(symbols) => Some(symbols),
            _ => None,
        }
    }
}

/// A return address by name: `symbol+0x1f`, `symbol+0x1f [module]`, or the bare address.
#[must_use]
pub fn name(symbols: Option<&Kallsyms>, address: u64) -> String {
    match symbols.and_then(|symbols| symbols.lookup_return(address)) {
        Some(symbol) => match symbol.module {
            Some(module) => format!("{}+{:#x} [{module}]", symbol.name, symbol.offset),
            None => format!("{}+{:#x}", symbol.name, symbol.offset),
        },
        None => format!("{address:#x}"),
    }
}
