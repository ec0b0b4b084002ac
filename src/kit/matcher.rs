//! Which requests a rule is about: a method and a path, as they were sent.
//!
//! No query, no decoding of percent-encoding, no removal of dot segments, for the server gets the same bytes and must not
//! understand another path than the policy did.
//!
//! | matcher segment | stands for |
//! |---|---|
//! | `charges` | exactly these bytes |
//! | `*` | one segment that is not empty |
//! | `**` (last only) | any number of segments, also none: `/a/**` matches `/a`, `/a/` and `/a/b/c` |

use std::fmt;

use crate::kit::units::Unfit;

/// The most segments that a matcher may have.
pub const SEGMENTS_MAX: usize = 64;

/// Which requests a route is about: `POST /charges`, `GET /reports/**`, `/x/*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Matcher {
    method: Option<String>,
    segments: Vec<Segment>,
    rest: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    Any,
}

/// How narrow a matcher is; the greater wins. Of two matchers that match the same request, the ranks differ unless the
/// matchers are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatcherRank {
    // The order of the fields is the order of the comparison.
    literals: usize,
    ends: bool,
    segments: usize,
    method: bool,
    // One bit a segment, the first highest: of `/a/*` and `/*/b` the one with the earlier literal wins.
    shape: u64,
}

impl Matcher {
    /// Parses the text of a `match:` key.
    ///
    /// # Errors
    /// If it is not an optional method and a path that begins with `/`, without a query and with `*` and `**` as whole
    /// segments.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let text = text.trim();
        let (method, path) = match text.split_once([' ', '\t']) {
            Some((method, path)) => (Some(method), path.trim_start()),
            None => (None, text),
        };
        let method = method.map(parse_method).transpose()?;
        if !path.starts_with('/') {
            return Err(bad_path(text, path));
        }
        if let Some((path, _)) = path.split_once(['?', '#']) {
            let message = format!("`{text}` has a query: a match sees the path only");
            return Err(Unfit::new(message).hint(format!("did you mean `{path}`?")));
        }
        if let Some(bad) = path.chars().find(|c| !c.is_ascii_graphic()) {
            let message = format!(
                "`{text}` has `{}`, which no path contains",
                bad.escape_debug()
            );
            return Err(
                Unfit::new(message).hint("write it percent-encoded, as the client sends it")
            );
        }
        let (path, rest) = match path.strip_suffix("/**") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let texts = path.split('/').skip(1);
        let segments = texts
            .map(|segment| parse_segment(segment, text))
            .collect::<Result<Vec<_>, _>>()?;
        if segments.len() > SEGMENTS_MAX {
            return Err(Unfit::new(format!(
                "`{text}` has more than {SEGMENTS_MAX} segments"
            )));
        }
        Ok(Self {
            method,
            segments,
            rest,
        })
    }

    /// Whether a request takes this route. `path` is the request target's path; a query after it is not looked at.
    #[must_use]
    pub fn matches(&self, method: &str, path: &str) -> bool {
        if self.method.as_deref().is_some_and(|own| own != method) {
            return false;
        }
        let path = match path.find(['?', '#']) {
            Some(end) => &path[..end],
            None => path,
        };
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut given = path.split('/');
        for segment in &self.segments {
            let fits = match (segment, given.next()) {
                (Segment::Literal(own), Some(given)) => own == given,
                (Segment::Any, Some(given)) => !given.is_empty(),
                (_, None) => false,
            };
            if !fits {
                return false;
            }
        }
        self.rest || given.next().is_none()
    }

    /// How narrow this is: more literal segments, then `*` before `**`, then more segments, then with a method, then the
    /// earlier literal.
    #[must_use]
    pub fn specificity(&self) -> MatcherRank {
        let literal = |segment: &Segment| matches!(segment, Segment::Literal(_));
        let shape = self
            .segments
            .iter()
            .enumerate()
            .fold(0, |shape, (i, segment)| {
                shape | u64::from(literal(segment)) << (SEGMENTS_MAX - 1 - i)
            });
        MatcherRank {
            literals: self.segments.iter().filter(|s| literal(s)).count(),
            ends: !self.rest,
            segments: self.segments.len(),
            method: self.method.is_some(),
            shape,
        }
    }

    /// Whether both match exactly the same requests.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self == other
    }

    /// Whether some request would match both. What the tests measure the ranks by.
    #[cfg(test)]
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let methods = match (&self.method, &other.method) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let lengths = match self.segments.len().cmp(&other.segments.len()) {
            std::cmp::Ordering::Less => self.rest,
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => other.rest,
        };
        let meet = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Literal(text), Segment::Any) | (Segment::Any, Segment::Literal(text)) => {
                !text.is_empty()
            }
            (Segment::Any, Segment::Any) => true,
        };
        methods && lengths && self.segments.iter().zip(&other.segments).all(meet)
    }

    /// Whether every request that `other` matches is matched by this too. What the tests measure the ranks by.
    #[cfg(test)]
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let methods = self.method.is_none() || self.method == other.method;
        let lengths = if self.rest {
            self.segments.len() <= other.segments.len()
        } else {
            self.segments.len() == other.segments.len() && !other.rest
        };
        let within = |(own, other): (&Segment, &Segment)| match (own, other) {
            (Segment::Literal(own), Segment::Literal(other)) => own == other,
            (Segment::Literal(_), Segment::Any) => false,
            (Segment::Any, Segment::Literal(other)) => !other.is_empty(),
            (Segment::Any, Segment::Any) => true,
        };
        methods && lengths && self.segments.iter().zip(&other.segments).all(within)
    }

    /// Whether it says anything of the path: `/**` does not.
    #[must_use]
    pub fn names_path(&self) -> bool {
        !(self.segments.is_empty() && self.rest)
    }

    /// The method, if the matcher names one.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Any => f.write_str("/*")?,
            }
        }
        f.write_str(if self.rest { "/**" } else { "" })
    }
}

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

fn parse_method(text: &str) -> Result<String, Unfit> {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&b);
    if matches!(text, "*" | "ANY" | "any" | "ALL" | "all") {
        let message = format!("`{text}` is not a method");
        return Err(Unfit::new(message).hint("leave the method out to match every method"));
    }
    if !text.bytes().all(tchar) {
        return Err(Unfit::new(format!("`{text}` is not a method"))
            .hint("write it such as `POST /charges`"));
    }
    let upper = text.to_ascii_uppercase();
    if upper != text && METHODS.contains(&upper.as_str()) {
        let message = format!("`{text}` would never match: methods are case-sensitive");
        return Err(Unfit::new(message).hint(format!("did you mean `{upper}`?")));
    }
    Ok(text.to_owned())
}

fn bad_path(text: &str, path: &str) -> Unfit {
    if METHODS.contains(&path) {
        return Unfit::new(format!("`{text}` has no path"))
            .hint(format!("did you mean `{path} /**`?"));
    }
    if path.is_empty() {
        return Unfit::new("the match is empty")
            .hint("write it such as `POST /charges` or `/reports/**`");
    }
    if path.contains("://") {
        let message = format!("`{text}` is a URL: a match is a path of its upstream");
        return Unfit::new(message).hint("write it such as `GET /reports/**`");
    }
    Unfit::new(format!("`{path}` does not begin with `/`")).hint(format!("did you mean `/{path}`?"))
}

fn parse_segment(segment: &str, text: &str) -> Result<Segment, Unfit> {
    match segment {
        "*" => Ok(Segment::Any),
        "**" => Err(
            Unfit::new(format!("`{text}` has a `**` that is not at the end"))
                .hint("`**` stands for all that follows; `*` stands for one segment"),
        ),
        _ if segment.contains('*') => {
            let message = format!("`{segment}` in `{text}`: a `*` stands for one whole segment");
            Err(Unfit::new(message).hint("write `*` or `**` alone between slashes"))
        }
        _ => Ok(Segment::Literal(segment.to_owned())),
    }
}
