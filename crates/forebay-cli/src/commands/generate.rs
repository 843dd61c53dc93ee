//! `forebay generate`: man pages and shell completions.
//!
//! Invariant: both come from the definitions that parse the command line, so they cannot say
//! anything else than `--help`.

use crate::failure::{Failure, Outcome, Result};
use crate::io::replace::Target;
use crate::io::standard::{Stream, require};
use crate::output::{count, print};
use clap::{Command, Subcommand, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;
use std::path::{Path, PathBuf};

/// In the text after the options, what continues an item is indented by at least this much,
/// and an item by less.
const CONTINUED_INDENT: usize = 4;
/// What is said about an item that is a line of its own is indented by at least this much.
const BELOW_INDENT: usize = 6;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay generate man /usr/local/share/man/man1
  forebay generate completions bash > /etc/bash_completion.d/forebay
  forebay generate completions zsh > /usr/local/share/zsh/site-functions/_forebay
  forebay generate completions fish > ~/.config/fish/completions/forebay.fish

The exit status is
  0  when everything was written
  2  on errors")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a man page for each command, such as forebay-push.1
    Man {
        /// Where the pages go; made if it is missing
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
    /// Print the completions of a shell on standard output
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
}

/// `cli` is the definition of the whole program.
pub(crate) fn run(args: &Args, mut cli: Command) -> Result<Outcome> {
    require(Stream::Output)?;
    match &args.what {
        What::Man { directory } => {
            std::fs::create_dir_all(directory).map_err(|error| {
                Failure::io(
                    &format!("make the directory {}", directory.display()),
                    &error,
                )
            })?;
            let pages = write_pages(cli, directory)?;
            print(&format!(
                "{} in {}\n",
                count(pages, "page"),
                directory.display()
            ))?;
        }
        What::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut cli, "forebay", &mut text);
            print(&String::from_utf8_lossy(&text))?;
        }
    }
    Ok(Outcome::Fine)
}

/// Writes the page of the program and those of its commands; returns how many.
fn write_pages(cli: Command, directory: &Path) -> Result<u64> {
    // `help` shows these pages, and has none.
    let mut cli = cli.disable_help_subcommand(true);
    cli.build();
    let mut commands = Vec::new();
    collect(&cli, "forebay", &mut commands);
    let names: Vec<&str> = commands.iter().map(|(_, name)| name.as_str()).collect();
    for (command, name) in &commands {
        let page = page(command, name, &names)
            .map_err(|error| Failure::io(&format!("make the page {name}.1"), &error))?;
        Target::new(&directory.join(format!("{name}.1")))?.write(&page)?;
    }
    Ok(commands.len() as u64)
}

/// Adds a command and all below it, with the names of their pages.
fn collect<'c>(command: &'c Command, name: &str, into: &mut Vec<(&'c Command, String)>) {
    into.push((command, name.to_owned()));
    for below in command.get_subcommands() {
        collect(below, &format!("{name}-{}", below.get_name()), into);
    }
}

/// The man page of a command. `names` are the names of all pages.
fn page(command: &Command, name: &str, names: &[&str]) -> io::Result<Vec<u8>> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone().version(version).display_name(name))
        .title(name)
        // An argument without a character would be left out, and the next one taken for the date.
        .date(" ")
        .source(format!("Forebay {version}"))
        .manual("Forebay");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let text = command.get_after_long_help().or(command.get_after_help());
    let text = text.map(ToString::to_string).unwrap_or_default();
    let paragraphs: Vec<Paragraph<'_>> = text.split("\n\n").map(Paragraph::new).collect();
    let mut body = Roff::new();
    for paragraph in paragraphs.iter().filter(|p| p.section.is_none()) {
        paragraph.render(&mut body);
    }
    body.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    for paragraph in &paragraphs {
        if let Some(section) = paragraph.section {
            rest.control("SH", [section]);
            paragraph.render(&mut rest);
        }
    }
    rest.control("SH", ["SEE ALSO"]);
    let others: Vec<_> = names.iter().filter(|other| **other != name).collect();
    let mut line = Vec::new();
    for (index, other) in others.iter().enumerate() {
        line.push(bold(**other));
        let comma = if index + 1 < others.len() { ", " } else { "" };
        line.push(roman(format!("(1){comma}")));
    }
    rest.text(line);
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// A paragraph of the text after the options: lines, and indented lines after them.
struct Paragraph<'a> {
    /// The section that it is, if it is not part of the description.
    section: Option<&'static str>,
    lead: Vec<&'a str>,
    indented: Vec<&'a str>,
}

impl<'a> Paragraph<'a> {
    fn new(text: &'a str) -> Self {
        let mut lines = text.lines().peekable();
        let mut lead = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with(' ')) {
            lead.push(line);
        }
        let section = match lead.first() {
            Some(&("Examples:" | "Begin with:")) => Some("EXAMPLES"),
            Some(&"The exit status is") => Some("EXIT STATUS"),
            _ => None,
        };
        if section.is_some() {
            lead.clear();
        }
        Self {
            section,
            lead,
            indented: lines.collect(),
        }
    }

    fn render(&self, roff: &mut Roff) {
        match self.lead.as_slice() {
            [] => {}
            [title] if title.ends_with(':') => {
                roff.control("SS", [title.trim_end_matches(':')]);
            }
            lines => {
                roff.control("PP", []);
                for line in lines {
                    roff.text([roman(*line)]);
                }
            }
        }
        match self.section {
            Some("EXAMPLES") => self.render_examples(roff),
            _ => self.render_items(roff),
        }
    }

    /// Commands, and below each of them what it does.
    fn render_examples(&self, roff: &mut Roff) {
        for line in &self.indented {
            let text = line.trim_start();
            if indent(line) >= CONTINUED_INDENT {
                roff.control("RS", ["4"]);
                roff.text([roman(text)]);
                roff.control("RE", []);
            } else {
                roff.control("PP", []);
                roff.text([bold(text)]);
            }
        }
    }

    /// Prose, names with their meaning beside or below them, and lists with dashes.
    fn render_items(&self, roff: &mut Roff) {
        let mut in_prose = false;
        let mut in_inner_list = false;
        for (at, line) in self.indented.iter().enumerate() {
            let text = line.trim_start();
            let below = self.indented.get(at + 1).map_or(0, |next| indent(next));
            let is_item = indent(line) < CONTINUED_INDENT;
            if is_item && in_inner_list {
                roff.control("RE", []);
                in_inner_list = false;
            }
            let was_in_prose = std::mem::take(&mut in_prose);
            if let Some(text) = text.strip_prefix("- ") {
                if !is_item && !in_inner_list {
                    roff.control("RS", []);
                    in_inner_list = true;
                }
                roff.control("IP", ["-", "2"]);
                roff.text([roman(text)]);
            } else if !is_item {
                roff.text([roman(text)]);
            } else if let Some((name, meaning)) = text.split_once("  ") {
                roff.control("TP", []);
                roff.text([bold(name)]);
                roff.text([roman(meaning.trim_start())]);
            } else if below >= BELOW_INDENT {
                roff.control("TP", []);
                roff.text([bold(text)]);
            } else {
                if !was_in_prose || indent(line) == 0 {
                    roff.control("PP", []);
                }
                roff.text([roman(text)]);
                in_prose = true;
            }
        }
        if in_inner_list {
            roff.control("RE", []);
        }
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}
