//! Loaded modules: `/proc/modules`.

use std::ops::Range;

use super::{KernelError, KernelFiles};

/// A loaded module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, as the kernel writes it (`_`, never `-`).
    pub name: String,
    /// Where its code lies.
    pub base: u64,
    /// Bytes from there. Since 6.4 the kernel says the size of all its parts together, which lie apart; so the range
    /// is cut where the next module starts.
    pub size: u64,
    /// It is no part of the kernel's own source (taint flag `O`).
    pub out_of_tree: bool,
}

impl Module {
    /// The addresses of its code.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.base..self.base + self.size
    }
}

/// All loaded modules by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules(Vec<Module>);

impl Modules {
    /// Reads the table. A kernel without module support has none.
    ///
    /// # Errors
    /// The file is there but can't be read.
    pub fn read(files: &KernelFiles) -> Result<Self, KernelError> {
        if !files.exists("proc/modules") {
            return Ok(Self::default());
        }
        Ok(Self::parse(&files.read_text("proc/modules")?))
    }

    /// Reads the text of the table.
    pub(crate) fn parse(text: &str) -> Self {
        let mut modules: Vec<Module> = text.lines().filter_map(line).collect();
        modules.sort_by_key(|module| module.base);
        for i in 1..modules.len() {
            let next = modules[i].base;
            let module = &mut modules[i - 1];
            module.size = module.size.min(next - module.base);
        }
        Self(modules)
    }

    /// In the order of their addresses.
    #[must_use]
    pub fn as_slice(&self) -> &[Module] {
        &self.0
    }

    /// The module with that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Module> {
        self.0.iter().find(|module| module.name == name)
    }

    /// The module whose code an address lies in.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<&Module> {
        let after = self.0.partition_point(|module| module.base <= address);
        self.0[..after].last().filter(|module| module.range().contains(&address))
    }
}

/// `xfs 2588672 1 - Live 0xffffffffc0a00000 (E)`; the address is 0 for who may not see it, and then useless.
fn line(line: &str) -> Option<Module> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?.to_owned();
    let size = fields.next()?.parse().ok()?;
    let base = u64::from_str_radix(fields.nth(3)?.strip_prefix("0x")?, 16).ok()?;
    let out_of_tree = fields.next().is_some_and(|taint| taint.contains('O'));
    (base != 0).then_some(Module { name, base, size, out_of_tree })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed() {
        let modules = Modules::parse(
            "nfs 4096 2 nfsv4,nfsv3, Live 0xffffffffc0002000\n\
             sunrpc 16384 1 nfs, Live 0xffffffffc0000000 (OE)\n\
             hidden 4096 0 - Live 0x0000000000000000\n\
             broken\n",
        );
        assert_eq!(modules.as_slice().iter().map(|module| &*module.name).collect::<Vec<_>>(), ["sunrpc", "nfs"]);
        assert_eq!(modules.named("sunrpc").unwrap().size, 0x2000);
        assert!(modules.named("sunrpc").unwrap().out_of_tree && !modules.named("nfs").unwrap().out_of_tree);
        assert_eq!(modules.at(0xffff_ffff_c000_2fff).unwrap().name, "nfs");
        assert_eq!(modules.at(0xffff_ffff_c000_1fff).unwrap().name, "sunrpc");
        assert_eq!(modules.at(0xffff_ffff_c000_3000), None);
        assert_eq!(modules.at(0), None);
    }
}
