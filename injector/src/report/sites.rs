//! The inventory, for people in a terminal.

use std::io::{self, Write};

use super::{
    model::Report,
    phrase::{self, number, one_line},
};
use crate::foreign::write_lines;

/// The inventory by module; with `stacks`, every site with its stack.
///
/// # Errors
/// It can't be written.
pub fn sites(report: &Report, stacks: bool, out: &mut dyn Write) -> io::Result<()> {
    write_lines(out, |out| whole(report, stacks, out))
}

fn whole(report: &Report, stacks: bool, out: &mut dyn Write) -> io::Result<()> {
    // They were reached when they were seen; since then they were not.
    let counts = phrase::counts(&report.counts).replace(" unreached", " unreached since");
    writeln!(out, "{counts}")?;
    if report.modules.is_empty() {
        return out.flush();
    }
    let modules = report.modules.iter().map(|module| one_line(&module.module).chars().count());
    let width = modules.max().unwrap_or(0).max("module".len());
    writeln!(
        out,
        "\n{:<width$}{:>9}{:>13}{:>9}{:>9}{:>11}{:>9}",
        "module", "sites", "hits a run", "failed", "masked", "unreached", "left"
    )?;
    let mut modules: Vec<_> = report.modules.iter().collect();
    modules.sort_by(|a, b| (b.counts.seen, &a.module).cmp(&(a.counts.seen, &b.module)));
    for module in modules {
        let counts = &module.counts;
        writeln!(
            out,
            "{:<width$}{:>9}{:>13}{:>9}{:>9}{:>11}{:>9}",
            one_line(&module.module),
            number(counts.seen as u64),
            number(module.hits),
            number(counts.failed as u64),
            number(counts.masked as u64),
            number(counts.unreached as u64),
            number((counts.left + counts.elsewhere) as u64)
        )?;
        if !stacks {
            continue;
        }
        let mut sites: Vec<_> = report.sites_of(&module.module).collect();
        sites.sort_by_key(|(signature, site)| (std::cmp::Reverse(site.hits), *signature));
        for (signature, site) in sites {
            let verdict = phrase::skipped(report, signature, site).unwrap_or_else(|| phrase::verdict(site));
            writeln!(out, "\n  {signature} {}, {} hits a run, {verdict}", site.hook(), number(site.hits))?;
            if let Some(after) = site.after {
                writeln!(out, "    first seen after a failure of site {after}")?;
            }
            for frame in &site.stack {
                let (inlined, frame) = phrase::frame(&report.lines, frame);
                for line in inlined.iter().map(String::as_str).chain([&*frame]) {
                    writeln!(out, "    {line}")?;
                }
            }
        }
        writeln!(out)?;
    }
    out.flush()
}
