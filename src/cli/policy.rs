//! `outrider policy show`

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::check;
use crate::cli::out;
use crate::cli::paint::Paint;
use crate::config;
use crate::config::Effect;
use crate::config::Loaded;
use crate::config::Surroundings;
use crate::redact::Clean;

/// `outrider policy ...`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the policy as outrider understands it
    Show(Show),
}

/// `outrider policy show`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider policy show policy.yaml                the policy in its long form, profiles and defaults folded in
  outrider policy show --expanded policy.yaml     every value in force, and where it comes from
  outrider policy show --expanded policy.yaml | grep -v builtin

Exit codes: 0 shown, 2 the policy does not load.")]
pub struct Show {
    /// Every value in force with its origin: `builtin`, `defaults:2` (line 2), `profile third-party:4`, `upstreams[0]:7`
    #[arg(long)]
    expanded: bool,

    /// Policy files, or directories of *.yaml
    #[arg(required = true, value_name = "CONFIG")]
    config: Vec<PathBuf>,
}

/// The command.
pub fn run(command: &Command) -> ExitCode {
    let Command::Show(show) = command;
    match load(&show.config) {
        Ok(loaded) if show.expanded => own(loaded.effective.to_text()),
        Ok(loaded) => own(normalised(&loaded)),
        Err(code) => code,
    }
}

/// A policy that loads holds no secret, only the places of some, and what is printed has to load again.
fn own(text: String) -> ExitCode {
    out::finish_clean(&Clean::vetted(text.into_bytes()), 0)
}

/// Loads a policy for a command that needs one; tells its faults and warnings on stderr.
///
/// # Errors
/// The exit code, after the faults have been told.
pub fn load(sources: &[PathBuf]) -> Result<Loaded, ExitCode> {
    let paint = Paint::to(&io::stderr());
    match config::load_with(sources, &Surroundings::of_process()) {
        Ok(loaded) => {
            tell(&loaded.warnings, paint);
            Ok(loaded)
        }
        Err(faults) => {
            tell(&faults, paint);
            Err(out::refuse("the policy does not load"))
        }
    }
}

fn tell(faults: &[config::Fault], paint: Paint) {
    for fault in faults {
        out::say(check::told(fault, paint).trim_end());
    }
}

/// The policy as one file in its long form: what the layers below an upstream or a route say stands in it, built-in values do
/// not. It loads again, and as the same policy.
#[must_use]
pub fn normalised(loaded: &Loaded) -> String {
    const BUILTIN: &str = "builtin";
    let written = |values: &[Effect]| -> Vec<Effect> {
        values
            .iter()
            .filter(|effect| effect.origin != BUILTIN)
            .cloned()
            .collect()
    };
    let mut out = String::from("apiVersion: outrider.dev/v1\nkind: Policy\n");
    let global = Node::of(&written(&loaded.effective.global));
    global.print(&mut out, "");
    let mut current: Option<(usize, &[Effect])> = None;
    for route in &loaded.effective.routes {
        let Some(index) = route.upstream_index else {
            let fallback = Node::of(&written(&route.values));
            if !fallback.is_empty() {
                out.push_str("defaults:\n");
                fallback.print(&mut out, "  ");
            }
            continue;
        };
        match current {
            Some((known, base)) if known == index => {
                let own: Vec<Effect> = route
                    .values
                    .iter()
                    .filter(|effect| !stands(base, effect))
                    .cloned()
                    .collect();
                let _ = writeln!(out, "      - match: {}", text(&route.route));
                Node::of(&own).print(&mut out, "        ");
            }
            _ => {
                if current.is_none() {
                    out.push_str("upstreams:\n");
                }
                current = Some((index, &route.values));
                let _ = writeln!(out, "  - upstream: {}", text(&route.upstream));
                Node::of(&written(&route.values)).print(&mut out, "    ");
                if !loaded.policy.upstreams[index].routes.is_empty() {
                    out.push_str("    routes:\n");
                }
            }
        }
    }
    out
}

fn stands(base: &[Effect], effect: &Effect) -> bool {
    base.iter()
        .any(|known| known.path == effect.path && known.value == effect.value)
}

/// Dotted paths as a tree, in the order in which they come.
#[derive(Default)]
struct Node {
    value: Option<String>,
    children: Vec<(String, Node)>,
}

impl Node {
    fn of(effects: &[Effect]) -> Node {
        let mut root = Node::default();
        for effect in effects {
            let mut node = &mut root;
            for part in effect.path.split('.') {
                let place = node
                    .children
                    .iter()
                    .position(|(name, _)| name == part)
                    .unwrap_or_else(|| {
                        node.children.push((part.to_owned(), Node::default()));
                        node.children.len() - 1
                    });
                node = &mut node.children[place].1;
            }
            node.value = Some(effect.value.clone());
        }
        root
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// One line for each key at the top, blocks in flow style.
    fn print(&self, out: &mut String, indent: &str) {
        for (name, child) in &self.children {
            let _ = writeln!(out, "{indent}{name}: {}", child.flow());
        }
    }

    fn flow(&self) -> String {
        if let Some(value) = &self.value {
            return plain(value);
        }
        let inside = self
            .children
            .iter()
            .map(|(name, child)| format!("{name}: {}", child.flow()));
        format!("{{ {} }}", inside.collect::<Vec<_>>().join(", "))
    }
}

/// A value as YAML reads it back; lists and blocks keep their brackets.
fn plain(value: &str) -> String {
    let inside = |open, close| value.strip_prefix(open)?.strip_suffix(close);
    if let Some(entries) = inside("{ ", " }") {
        let entries = parts(entries)
            .into_iter()
            .filter_map(|entry| entry.split_once(": "))
            .map(|(key, value)| format!("{}: {}", text(key), plain(value)));
        return format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "));
    }
    // An IPv6 address has brackets too, but a port behind them.
    match inside("[", "]") {
        Some(items) => {
            let items: Vec<String> = parts(items).into_iter().map(plain).collect();
            format!("[{}]", items.join(", "))
        }
        None => text(value),
    }
}

/// What commas part, but for those inside brackets.
fn parts(list: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in list.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(list[start..].trim());
    found.retain(|part| !part.is_empty());
    found
}

/// Bare where it can stand bare, else in double quotes: a JSON string is a YAML double-quoted scalar.
fn text(value: &str) -> String {
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-/%:+".contains(c);
    let bare = value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && value.chars().all(inside)
        && !value.ends_with(':');
    if bare {
        value.to_owned()
    } else {
        serde_json::Value::from(value).to_string()
    }
}
