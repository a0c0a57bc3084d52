//! An inventory of sites, as `injector sites -v` prints it, and stacks of addresses beside it.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;

/// The functions of this kernel: /proc/kallsyms.
#[derive(Debug, Default)]
pub struct Functions(HashMap<String, Vec<u64>>);

/// A site.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its signature.
    pub signature: String,
    /// `slab` or `page`.
    pub hook: String,
    /// Each frame at all addresses that it can mean: static functions may have one name.
    stack: Vec<Vec<u64>>,
}

impl Functions {
    /// Reads them.
    pub fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/kallsyms").expect("/proc/kallsyms"))
    }

    fn parse(text: &str) -> Self {
        let mut functions: HashMap<String, Vec<u64>> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some("t" | "T" | "w" | "W"), Some(name)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let address = u64::from_str_radix(address, 16).unwrap_or_else(|e| panic!("{line}: {e}"));
            let name = words.next().map_or_else(|| name.to_owned(), |module| format!("{name} {module}"));
            functions.entry(name).or_default().push(address);
        }
        Self(functions)
    }

    /// From one symbol to another.
    pub fn range(&self, start: &str, end: &str) -> Range<u64> {
        let address = |name: &str| self.0.get(name).unwrap_or_else(|| panic!("there is no {name}"))[0];
        address(start)..address(end)
    }

    /// Where `function+0x1f` or `function+0x1f [module]` is.
    fn addresses(&self, frame: &str) -> Vec<u64> {
        let (place, module) = frame.split_once(' ').map_or((frame, None), |(place, module)| (place, Some(module)));
        let hex = |digits: &str| digits.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let Some((name, offset)) = place.split_once('+') else { return hex(place).into_iter().collect() };
        let offset = hex(offset).unwrap_or_else(|| panic!("{frame}: no offset"));
        let starts = match module {
            Some(module) => self.0.get(&format!("{name} {module}")),
            None => self.0.get(name),
        };
        starts.unwrap_or_else(|| panic!("{frame}: no such function")).iter().map(|start| start + offset).collect()
    }
}

impl Site {
    /// Reads what `injector sites -v` prints.
    pub fn parse_all(text: &str, functions: &Functions) -> Vec<Self> {
        let mut sites: Vec<Self> = Vec::new();
        for line in text.lines() {
            if let Some(frame) = line.strip_prefix("    ") {
                if let Some(site) = sites.last_mut() {
                    site.stack.push(functions.addresses(frame));
                }
            } else if let Some((signature, rest)) = line.strip_prefix("  ").and_then(|line| line.split_once(' ')) {
                let (hook, _) = rest.split_once(", ").unwrap_or_else(|| panic!("{line}: no hook"));
                sites.push(Self { signature: signature.to_owned(), hook: hook.to_owned(), stack: Vec::new() });
            }
        }
        sites
    }

    /// A site by the names of its frames.
    pub fn named(hook: &str, stack: &[String], functions: &Functions) -> Self {
        let stack = stack.iter().map(|frame| functions.addresses(frame)).collect();
        Self { signature: String::new(), hook: hook.to_owned(), stack }
    }

    /// Whether this is its stack: the hook's callers, innermost first.
    pub fn is(&self, hook: &str, stack: &[u64]) -> bool {
        self.hook == hook
            && self.stack.len() == stack.len()
            && self.stack.iter().zip(stack).all(|(possible, address)| possible.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "0000000000001000 T alloc\n0000000000002000 t twice\n0000000000003000 t twice\n\
         0000000000004000 t init\t[module]\n0000000000005000 d data\n";
    const PRINTED: &str = "2 sites seen, 2 not failed yet\n\nmodule   sites\nvfs          2\n\n  \
         2985f6b568777bb9 slab, 10 hits a run, not failed yet\n    alloc+0x3c\n    twice+0x10\n\n  \
         0402110cd187cab8 page, 4 hits a run, not failed yet\n    init+0x1 [module]\n\n";

    #[test]
    fn stacks_are_those_of_sites() {
        let functions = Functions::parse(KALLSYMS);
        assert_eq!(functions.range("alloc", "twice"), 0x1000..0x2000);
        let sites = Site::parse_all(PRINTED, &functions);
        assert_eq!(sites.len(), 2);
        assert_eq!(sites[0].signature, "2985f6b568777bb9");
        assert!(sites[0].is("slab", &[0x103c, 0x2010]) && sites[0].is("slab", &[0x103c, 0x3010]));
        assert!(!sites[0].is("page", &[0x103c, 0x2010]) && !sites[0].is("slab", &[0x103c, 0x2011]));
        assert!(!sites[0].is("slab", &[0x103c]) && !sites[0].is("slab", &[0x103c, 0x2010, 0x1001]));
        assert!(sites[1].is("page", &[0x4001]));
    }
}
