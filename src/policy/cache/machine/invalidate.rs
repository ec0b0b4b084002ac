//! What a successful unsafe request makes untrue (RFC 9111 section 4.4).

use super::Headers;
use super::key::Target;

/// Whether an answer with this status to an unsafe request invalidates: any that is no error.
#[must_use]
pub const fn by(status: u16) -> bool {
    matches!(status, 200..=399)
}

/// Paths besides the target's own that the answer invalidates: where `Location` and `Content-Location` point to the same
/// origin. Another origin's are left alone: an answer must not empty what is not its own.
pub fn also<H: Headers>(target: Target<'_>, response: &H) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for name in ["location", "content-location"] {
        let path = response
            .first(name)
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(|reference| resolve(target, reference.trim()));
        if let Some(path) = path.filter(|path| path != target.path && !paths.contains(path)) {
            paths.push(path);
        }
    }
    paths
}

/// A reference's path and query, if it is of the target's origin (RFC 3986 section 5.2).
fn resolve(target: Target<'_>, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    let (base, base_query) = cut(target.path);
    if reference.is_empty() {
        return Some(target.path.to_owned());
    }
    let rest = match scheme(reference) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(target.scheme) => {
            rest.strip_prefix("//").map(Some)?
        }
        Some(_) => return None,
        None => reference.strip_prefix("//"),
    };
    if let Some(rest) = rest {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !same(target, authority) {
            return None;
        }
        let (path, query) = cut(path);
        return Some(joined(&without_dots(path), query));
    }
    let (path, query) = cut(reference);
    if path.is_empty() {
        return Some(joined(base, query.or(base_query)));
    }
    if path.starts_with('/') {
        return Some(joined(&without_dots(path), query));
    }
    let folder = base.rfind('/').map_or("/", |at| &base[..=at]);
    Some(joined(&without_dots(&format!("{folder}{path}")), query))
}

fn scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let begins = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (begins && scheme.chars().all(known)).then_some((scheme, rest))
}

fn cut(path: &str) -> (&str, Option<&str>) {
    path.split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)))
}

fn joined(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

fn same(target: Target<'_>, authority: &str) -> bool {
    let key = |authority| {
        let (mut text, path) = (Vec::new(), "");
        super::key::url(
            Target {
                authority,
                path,
                ..target
            },
            &mut text,
        );
        text
    };
    key(authority) == key(target.authority)
}

/// RFC 3986 section 5.2.4. An empty path is `/`.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut folder = true;
    for segment in path.split('/').skip(1) {
        folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len() + 1);
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if folder || out.is_empty() {
        out.push('/');
    }
    out
}
