//! `completions`, `man` and `version`: what the program knows of itself.

use clap_complete::Shell;

use crate::cli::exit::End;
use crate::cli::out::Out;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tapedeck completions bash > ~/.local/share/bash-completion/completions/tapedeck
  tapedeck completions zsh > ~/.zfunc/_tapedeck
  tapedeck completions fish > ~/.config/fish/completions/tapedeck.fish")]
pub(super) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "tapedeck", &mut script);
        out.raw(&script)
    }
}

/// Print the manual page
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tapedeck man | man -l -
  tapedeck man tail > tapedeck-tail.1")]
pub(super) struct Man {
    /// The page of one verb
    verb: Option<String>,
}

impl Man {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<()> {
        let mut command = super::command();
        // Global options reach the verbs only when the command is built.
        command.build();
        let command = match &self.verb {
            None => command,
            Some(verb) => match command.find_subcommand(verb) {
                Some(found) => found.clone(),
                None => return Err(End::Usage(format!("there is no verb `{verb}`")).into()),
            },
        };
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        out.raw(&page)
    }
}

/// Print the version and what it was built for
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tapedeck version
  tapedeck version --json")]
pub(super) struct Version {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        if self.json {
            let schema = tapedeck_market::wire::SCHEMA;
            return out.json(&serde_json::json!({
                "version": version, "build": build, "os": os, "arch": arch, "event_schema": schema,
            }));
        }
        out.line(format!("tapedeck {version} ({build}, {os} {arch})"))
    }
}
