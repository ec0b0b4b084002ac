//! Reading Rust well enough for rules, with the standard library alone.

use std::fs;
use std::path::Path;

pub struct File {
    pub path: String,
    pub text: String,
    /// The text with comments and literals blanked.
    pub code: String,
}

pub fn file(path: &str, text: &str) -> File {
    File {
        path: path.to_owned(),
        text: text.to_owned(),
        code: code(text),
    }
}

pub fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|e| panic!("{path} cannot be read: {e}"))
}

/// The names in a folder of the project, sorted; none when there is no such folder.
pub fn list(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

pub fn is_folder(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_dir()
}

pub fn walk(folder: &str, suffix: &str, into: &mut Vec<File>) {
    for name in list(folder) {
        let path = format!("{folder}/{name}");
        if is_folder(&path) {
            walk(&path, suffix, into);
        } else if name.ends_with(suffix) {
            into.push(file(&path, &read(&path)));
        }
    }
}

/// The text with comments and literals blanked, line for line.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = blank_until(&chars, at).min(chars.len());
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(
                chars[at..end]
                    .iter()
                    .map(|&c| if c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none begins there.
fn blank_until(chars: &[char], at: usize) -> usize {
    let find = |from: usize, wanted: &[char]| {
        (from..chars.len())
            .find(|&i| chars[i..].starts_with(wanted))
            .map_or(chars.len(), |i| i + wanted.len())
    };
    match &chars[at..] {
        ['/', '/', ..] => find(at, &['\n']) - 1,
        ['/', '*', ..] => {
            let (mut depth, mut i) = (1, at + 2);
            while depth > 0 && i < chars.len() {
                match &chars[i..] {
                    ['/', '*', ..] => (depth, i) = (depth + 1, i + 2),
                    ['*', '/', ..] => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
            }
            i
        }
        ['"', ..] => {
            let mut i = at + 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i + 1
        }
        ['r', '"' | '#', ..]
            if at == 0 || !is_word(chars[at - 1]) || matches!(chars[at - 1], 'b' | 'c') =>
        {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            if chars.get(at + 1 + hashes) != Some(&'"') {
                return at; // a raw identifier
            }
            let mut close = vec!['"'];
            close.resize(hashes + 1, '#');
            find(at + 2 + hashes, &close)
        }
        ['\'', '\\', _, ..] => find(at + 3, &['\'']),
        ['\'', _, '\'', ..] => at + 3,
        _ => at,
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where `needle` stands as a word of its own.
pub fn places(text: &str, needle: &str) -> Vec<usize> {
    let whole = |at: usize| {
        let before = text[..at].chars().next_back();
        let after = text[at + needle.len()..].chars().next();
        let head = needle.starts_with(is_word) && before.is_some_and(is_word);
        let tail = needle.ends_with(is_word) && after.is_some_and(is_word);
        !head && !tail
    };
    text.match_indices(needle)
        .map(|(at, _)| at)
        .filter(|&at| whole(at))
        .collect()
}

/// `src/policy/breaker/layer.rs` is `policy`, `breaker`, `layer`; nothing for what is not in the library.
pub fn module(path: &str) -> Vec<String> {
    let Some(inside) = path
        .strip_prefix("src/")
        .and_then(|p| p.strip_suffix(".rs"))
    else {
        return Vec::new();
    };
    let mut parts: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(
        parts.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        parts.pop();
    }
    parts
}

/// Every path that begins with `crate` or `super`, written out from the root, with its line. It ends in `{` or `*`
/// where a group or a glob stands.
pub fn paths(f: &File) -> Vec<(usize, Vec<String>)> {
    let own = module(&f.path);
    let mut found = Vec::new();
    for head in ["crate::", "super::"] {
        for at in places(&f.code, head) {
            if f.code[..at].ends_with("::") {
                continue; // the second `super` of a climb, read with the first
            }
            let (mut base, mut rest) = (Vec::new(), &f.code[at..]);
            if head == "crate::" {
                rest = &rest[head.len()..];
            } else {
                base.clone_from(&own);
                while let Some(up) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = up;
                }
            }
            loop {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                match rest.chars().next() {
                    Some(c @ ('{' | '*')) => base.push(c.to_string()),
                    _ => base.push(rest[..end].to_owned()),
                }
                match rest[end..].strip_prefix("::") {
                    Some(next) => rest = next.trim_start(),
                    None => break,
                }
            }
            found.push((line_of(&f.code, at), base));
        }
    }
    found
}
