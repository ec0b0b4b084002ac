//! Files to documents: reads, bounds, directories, and ConfigMaps with their positions mapped back to the outer file.

use std::fs;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use super::dom;
use super::dom::Kind;
use super::dom::Node;
use super::dom::Span;
use super::dom::Why;
use super::fault::Place;
use super::fault::Shown;
use super::fault::Sink;
use super::fault::code;
use super::spec::root::API_VERSION;

/// One YAML document that may hold a policy.
#[derive(Debug)]
pub(crate) struct Document {
    /// Index into the sink's files.
    pub(crate) file: usize,
    pub(crate) node: Node,
}

/// The files behind what was named on the command line: files as they are, directories as their `*.yaml` in name order.
/// Hidden entries are passed over, among them the `..data` of a mounted ConfigMap.
///
/// # Errors
/// If a directory cannot be read.
pub(crate) fn files(sources: &[PathBuf]) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut all: Vec<PathBuf> = Vec::new();
    for source in sources {
        if !source.is_dir() {
            all.push(source.clone());
            continue;
        }
        let mut inside = Vec::new();
        let entries = fs::read_dir(source).map_err(|error| (source.clone(), error))?;
        for entry in entries {
            let path = entry.map_err(|error| (source.clone(), error))?.path();
            if is_policy_name(&path) && path.is_file() {
                inside.push(path);
            }
        }
        inside.sort();
        all.extend(inside);
    }
    let mut unique: Vec<PathBuf> = Vec::new();
    for path in all {
        if !unique.contains(&path) {
            unique.push(path);
        }
    }
    Ok(unique)
}

fn is_policy_name(path: &Path) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"))
}

/// Sixteen hex digits for a run of texts (FNV-1a, 64 bit): the same on every machine and in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds one text; its length goes in too, so that moving text from one file to the next changes the digest.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes
            .iter()
            .copied()
            .chain((bytes.len() as u64).to_le_bytes())
        {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Reads everything that was named. Returns the files in merge order; their texts are in the sink.
pub(crate) fn read(sources: &[PathBuf], sink: &mut Sink) -> Vec<PathBuf> {
    let paths = match files(sources) {
        Ok(paths) => paths,
        Err((path, error)) => {
            nowhere(
                sink,
                &path,
                code::UNREADABLE,
                format!("cannot read the directory: {error}"),
                None,
            );
            return Vec::new();
        }
    };
    for source in sources {
        if source.is_dir() && !paths.iter().any(|path| path.starts_with(source)) {
            let hint = "policies end in `.yaml` or `.yml` and do not begin with a dot";
            nowhere(
                sink,
                source,
                code::NOTHING,
                "no policy in this directory".to_owned(),
                Some(hint.to_owned()),
            );
        }
    }
    let mut read = Vec::new();
    for path in paths {
        match read_file(&path) {
            Ok(text) => {
                sink.files.push(Shown {
                    name: path.display().to_string(),
                    text: Some(text),
                });
                read.push(path);
            }
            Err(Unread::TooLarge) => nowhere(sink, &path, code::TOO_LARGE, too_large(), None),
            Err(Unread::Because(why)) => nowhere(
                sink,
                &path,
                code::UNREADABLE,
                format!("cannot read the file: {why}"),
                None,
            ),
        }
    }
    read
}

fn too_large() -> String {
    format!(
        "the file is larger than {} MiB",
        dom::MAX_BYTES / (1024 * 1024)
    )
}

enum Unread {
    TooLarge,
    Because(String),
}

fn read_file(path: &Path) -> Result<String, Unread> {
    let because = |error: io::Error| Unread::Because(error.to_string());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(because)?;
    file.take(dom::MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(because)?;
    if bytes.len() as u64 > dom::MAX_BYTES {
        return Err(Unread::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        Unread::Because(format!(
            "not UTF-8 at byte {}",
            error.utf8_error().valid_up_to()
        ))
    })
}

/// A fault about a file as a whole, which may have no text to show.
fn nowhere(
    sink: &mut Sink,
    path: &Path,
    code: super::fault::Code,
    message: String,
    hint: Option<String>,
) {
    sink.files.push(Shown {
        name: path.display().to_string(),
        text: None,
    });
    let place = Place {
        file: sink.files.len() - 1,
        span: Span::default(),
    };
    sink.add(code, place, message, hint);
}

/// Parses one file of the sink into documents: one, or one for each policy in a ConfigMap.
pub(crate) fn documents(file: usize, sink: &mut Sink) -> Vec<Document> {
    let Some(text) = sink.files.get(file).and_then(|shown| shown.text.clone()) else {
        return Vec::new();
    };
    let start = Place {
        file,
        span: Span {
            line: 1,
            column: 1,
            end: 1,
        },
    };
    if text.len() as u64 > dom::MAX_BYTES {
        sink.add(code::TOO_LARGE, start, too_large(), None);
        return Vec::new();
    }
    let node = match dom::parse(&text) {
        Ok(node) => node,
        Err(broken) => {
            report(
                &broken,
                Place {
                    file,
                    span: broken.span,
                },
                sink,
            );
            return Vec::new();
        }
    };
    if matches!(node.kind, Kind::Null) {
        sink.add(
            code::NOT_A_POLICY,
            start,
            "the file is empty",
            Some("the shortest policy is `upstream: host`".to_owned()),
        );
        return Vec::new();
    }
    let Kind::Map(pairs) = &node.kind else {
        not_a_mapping(
            Place {
                file,
                span: node.span,
            },
            sink,
        );
        return Vec::new();
    };
    if pairs
        .iter()
        .any(|(key, value)| key.text == "kind" && is_scalar(value, "ConfigMap"))
    {
        return config_map(file, &text, &node, sink);
    }
    own(Document { file, node }, sink).into_iter().collect()
}

fn is_scalar(node: &Node, text: &str) -> bool {
    matches!(&node.kind, Kind::Scalar(own) if own == text)
}

fn not_a_mapping(place: Place, sink: &mut Sink) {
    sink.add(
        code::NOT_A_POLICY,
        place,
        "a policy is a mapping",
        Some("begin with `upstream: host` or `upstreams:`".to_owned()),
    );
}

/// Refuses documents of another kind; of another version, only the version is refused, so that the rest is checked too.
fn own(mut document: Document, sink: &mut Sink) -> Option<Document> {
    let Kind::Map(pairs) = &mut document.node.kind else {
        return Some(document);
    };
    for (key, value) in pairs.iter() {
        if let ("kind", Kind::Scalar(kind)) = (key.text.as_str(), &value.kind)
            && kind != "Policy"
        {
            let place = Place {
                file: document.file,
                span: value.span,
            };
            let hint = "`kind` is `Policy` or is left out".to_owned();
            sink.add(
                code::FOREIGN,
                place,
                format!("this is a `{kind}`, not an outrider policy"),
                Some(hint),
            );
            return None;
        }
    }
    for (key, value) in pairs.iter() {
        if let ("apiVersion", Kind::Scalar(version)) = (key.text.as_str(), &value.kind)
            && version != API_VERSION
        {
            let place = Place {
                file: document.file,
                span: value.span,
            };
            let hint = format!("this version reads `{API_VERSION}`");
            sink.add(
                code::FOREIGN,
                place,
                format!("unknown apiVersion `{version}`"),
                Some(hint),
            );
        }
    }
    pairs.retain(|(key, value)| {
        key.text != "apiVersion"
            || is_scalar(value, API_VERSION)
            || !matches!(value.kind, Kind::Scalar(_))
    });
    Some(document)
}

fn report(broken: &dom::Broken, place: Place, sink: &mut Sink) {
    match broken.why {
        Why::Several => {
            let hint = "put each document into a file of its own and name the directory".to_owned();
            sink.add(
                code::SEVERAL,
                place,
                "a second document begins here; a policy file holds one",
                Some(hint),
            );
        }
        Why::Limit => {
            let hint = "the whole language is 7 levels deep and needs no aliases".to_owned();
            sink.add(code::LIMIT, place, broken.message.clone(), Some(hint));
        }
        Why::Syntax => sink.add(
            code::SYNTAX,
            place,
            broken.message.clone(),
            syntax_hint(&broken.message),
        ),
    }
}

fn syntax_hint(message: &str) -> Option<String> {
    let hint = if message.contains("tabs disallowed") {
        "indent with spaces"
    } else if message.contains("mapping values are not allowed") {
        "put the value in quotes, or check the indentation"
    } else if message.contains("unknown anchor") {
        "define it with `&name` before it is used; a host that begins with `*` needs quotes: `\"*.shop\"`"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// The policies inside a Kubernetes ConfigMap: each key of `data` that ends in `.yaml` or `.yml`.
fn config_map(file: usize, text: &str, root: &Node, sink: &mut Sink) -> Vec<Document> {
    let mut found = Vec::new();
    let mut seen = false;
    if let Kind::Map(pairs) = &root.kind
        && let Some((_, data)) = pairs.iter().find(|(key, _)| key.text == "data")
        && let Kind::Map(entries) = &data.kind
    {
        for (key, value) in entries {
            let named = key.text.ends_with(".yaml") || key.text.ends_with(".yml");
            if let (true, Kind::Scalar(inner)) = (named, &value.kind) {
                seen = true;
                let embed = Embed::find(text, key.span, value.span);
                found.extend(embedded(file, inner, &embed, sink));
            }
        }
    }
    if !seen {
        let hint = "its `data` needs a key such as `outrider.yaml: |`".to_owned();
        sink.add(
            code::NOTHING,
            Place {
                file,
                span: root.span,
            },
            "no policy in this ConfigMap",
            Some(hint),
        );
    }
    found
}

fn embedded(file: usize, text: &str, embed: &Embed, sink: &mut Sink) -> Option<Document> {
    match dom::parse(text) {
        Ok(mut node) if matches!(node.kind, Kind::Map(_)) => {
            embed.map_node(&mut node);
            own(Document { file, node }, sink)
        }
        Ok(node) => {
            not_a_mapping(
                Place {
                    file,
                    span: embed.map(node.span),
                },
                sink,
            );
            None
        }
        Err(broken) => {
            report(
                &broken,
                Place {
                    file,
                    span: embed.map(broken.span),
                },
                sink,
            );
            None
        }
    }
}

/// How positions inside an embedded text become positions of the outer file.
#[derive(Debug)]
enum Embed {
    /// A `|` block: every line has a line of its own.
    Literal { lines_before: u32, indent: u32 },
    /// Quoted or folded text: lines are not kept, so all faults point at the value.
    Fixed(Span),
}

impl Embed {
    fn find(text: &str, key: Span, value: Span) -> Embed {
        let line_of = |line: u32| {
            text.lines()
                .nth(line.saturating_sub(1) as usize)
                .unwrap_or_default()
        };
        let header: String = line_of(key.line)
            .chars()
            .skip(key.end.saturating_sub(1) as usize)
            .collect();
        let indicator = header.trim_start_matches([':', ' ', '"', '\'']);
        if !indicator.starts_with('|') {
            return Embed::Fixed(value);
        }
        let first = text
            .lines()
            .skip(key.line as usize)
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        let spaces = first.chars().take_while(|c| *c == ' ').count();
        let explicit = indicator
            .chars()
            .skip(1)
            .take(2)
            .find_map(|c| c.to_digit(10));
        let indent = match explicit {
            Some(digit) => key.column.saturating_sub(1) + digit,
            None => u32::try_from(spaces).unwrap_or(0),
        };
        Embed::Literal {
            lines_before: key.line,
            indent,
        }
    }

    fn map(&self, span: Span) -> Span {
        match *self {
            Embed::Literal {
                lines_before,
                indent,
            } => Span {
                line: span.line.saturating_add(lines_before),
                column: span.column.saturating_add(indent),
                end: span.end.saturating_add(indent),
            },
            Embed::Fixed(span) => span,
        }
    }

    fn map_node(&self, node: &mut Node) {
        node.span = self.map(node.span);
        match &mut node.kind {
            Kind::Seq(items) => items.iter_mut().for_each(|item| self.map_node(item)),
            Kind::Map(pairs) => {
                for (key, value) in pairs {
                    key.span = self.map(key.span);
                    self.map_node(value);
                }
            }
            Kind::Null | Kind::Scalar(..) => {}
        }
    }
}
