//! `injector completions`

use clap::{Args, ValueEnum};
use clap_complete::Shell;

const AFTER: &str = "\
Examples:
  injector completions bash > /etc/bash_completion.d/injector
  injector completions zsh > /usr/local/share/zsh/site-functions/_injector
  injector completions fish > ~/.config/fish/completions/injector.fish

The Debian package has them all.";

/// Print what makes a shell complete the injector's verbs and options
#[derive(Args)]
#[command(after_help = AFTER)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: KnownShell,
}

#[derive(Clone, Copy, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

impl CompletionsArgs {
    pub(super) fn into_script(self) -> Vec<u8> {
        let shell = match self.shell {
            KnownShell::Bash => Shell::Bash,
            KnownShell::Zsh => Shell::Zsh,
            KnownShell::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut super::command(), "injector", &mut script);
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &clap::Command, has: &impl Fn(&str) -> bool) {
        let options = command.get_arguments().filter(|argument| !argument.is_hide_set());
        for option in options.filter_map(clap::Arg::get_long) {
            assert!(has(option), "{}: --{option}", command.get_name());
        }
        command.get_subcommands().filter(|verb| !verb.is_hide_set()).for_each(|verb| check(verb, has));
    }

    #[test]
    fn each_shell_knows_every_option() {
        for shell in [KnownShell::Bash, KnownShell::Zsh, KnownShell::Fish] {
            let script = CompletionsArgs { shell }.into_script();
            let script = String::from_utf8(script).expect("UTF-8");
            let before = if matches!(shell, KnownShell::Fish) { "-l " } else { "--" };
            check(&super::super::command(), &|option| script.contains(&format!("{before}{option}")));
        }
    }
}
