//! `injector manual`

use std::io;
use std::path::PathBuf;

use clap::Args;
use clap_mangen::Man;

/// Write the manual pages, one for each verb, into a directory
///
/// `man -l DIR/injector.1` shows one of them. The Debian package has them all.
#[derive(Args)]
pub(super) struct ManualArgs {
    /// A directory that exists
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
}

/// A page of the manual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The name of its file.
    pub name: String,
    /// Its text, for `man`.
    pub text: String,
}

/// The pages: the program's, and those of its verbs.
pub(super) fn pages() -> Vec<Page> {
    let mut program = super::command();
    program.build();
    let mut pages = Vec::new();
    // Writing to a vector does not fail.
    let _ = add(program, &mut pages);
    pages
}

fn add(command: clap::Command, pages: &mut Vec<Page>) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        add(verb.clone(), pages)?;
    }
    let man = Man::new(command);
    let mut text = Vec::new();
    man.render(&mut text)?;
    // Examples and tables look as in the help: no hyphens, no blanks that widen lines.
    let text = String::from_utf8_lossy(&text).replacen("\n.SH ", "\n.nh\n.ad l\n.SH ", 1);
    pages.push(Page { name: man.get_filename(), text });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &clap::Command, pages: &[Page]) -> usize {
        let name = format!("{}.1", command.get_display_name().unwrap_or_else(|| command.get_name()));
        let page = pages.iter().find(|page| page.name == name).unwrap_or_else(|| panic!("no page {name}"));
        let options = command.get_arguments().filter(|argument| !argument.is_hide_set());
        for option in options.filter_map(clap::Arg::get_long) {
            let roff = format!("\\-\\-{}", option.replace('-', "\\-"));
            assert!(page.text.contains(&roff), "{name} lacks {roff}");
        }
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        1 + verbs.map(|verb| check(verb, pages)).sum::<usize>()
    }

    #[test]
    fn each_verb_has_a_page_with_all_its_options() {
        let mut program = super::super::command();
        program.build();
        let pages = pages();
        assert_eq!(check(&program, &pages), pages.len());
        for name in ["injector.1", "injector-sweep.1", "injector-module-install.1"] {
            assert!(pages.iter().any(|page| page.name == name), "{name}");
        }
    }
}
