//! What is wrong with a policy, where, and what to write instead. Codes are stable: they are never renumbered and never
//! reused, and `docs/policy-errors.md` explains each one.

use std::fmt;
use std::fmt::Write as _;

use super::dom::Span;

/// Whether a policy can still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy loads; this is worth a look.
    Warn,
}

impl Severity {
    /// `error` or `warn`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warn => "warn",
        }
    }
}

/// One fault. [`fmt::Display`] writes the one-line form, [`Fault::render`] adds the snippet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as it was named on the command line, or the name given to [`super::parse`].
    pub file: String,
    /// From 1; 0 if the fault has no place in a file.
    pub line: u32,
    /// From 1, in characters; 0 if the fault has no place in a file.
    pub column: u32,
    /// One past the last character.
    pub end_column: u32,
    /// Whether it keeps the policy from loading.
    pub severity: Severity,
    /// `OR012`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to write instead, if that can be told.
    pub hint: Option<String>,
    /// The line and a caret line under it, with a gutter; empty if the fault has no place in a file.
    pub snippet: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}", self.file)?;
        } else {
            write!(f, "{}:{}:{}", self.file, self.line, self.column)?;
        }
        write!(
            f,
            "  {:5} {}: {}",
            self.severity.word(),
            self.code,
            self.message
        )?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl Fault {
    /// The one-line form and the snippet, ending in a newline.
    #[must_use]
    pub fn render(&self) -> String {
        format!("{self}\n{}", self.snippet)
    }
}

/// Many faults, one after the other, as `check` prints them.
#[must_use]
pub fn render_all(faults: &[Fault]) -> String {
    faults.iter().map(Fault::render).collect()
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $severity:ident, $title:literal;)*) => {
        /// One constant for each code.
        pub mod code {
            use super::Code;
            use super::Severity;
            $($(#[$doc])* pub const $name: Code = Code { code: $code, severity: Severity::$severity, title: $title };)*
        }
        /// Every code, in order.
        pub const CATALOGUE: &[Code] = &[$(code::$name,)*];
    };
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `OR012`.
    pub code: &'static str,
    /// Always the same for one code.
    pub severity: Severity,
    /// A few words for lists and for SARIF rules.
    pub title: &'static str,
}

codes! {
    /// Missing, unreadable, or not UTF-8.
    UNREADABLE = "OR001", Error, "file cannot be read";
    /// Above 1 MiB.
    TOO_LARGE = "OR002", Error, "file is too large";
    /// Not YAML.
    SYNTAX = "OR003", Error, "not valid YAML";
    /// Nested too deep, or too many aliases.
    LIMIT = "OR004", Error, "YAML limits exceeded";
    /// More than one document in a file.
    SEVERAL = "OR005", Error, "several documents in one file";
    /// Nothing in it, or not a mapping.
    NOT_A_POLICY = "OR006", Error, "not a policy document";
    /// `apiVersion` or `kind` of something else.
    FOREIGN = "OR007", Error, "another apiVersion or kind";
    /// No policy file in a directory, no policy in a ConfigMap.
    NOTHING = "OR008", Error, "no policy found";
    /// `retry:` and nothing behind it.
    NO_VALUE = "OR010", Error, "key without a value";
    /// The same key twice.
    DUPLICATE_KEY = "OR011", Error, "key appears twice";
    /// Not in the language.
    UNKNOWN_KEY = "OR012", Error, "unknown key";
    /// A list where a block belongs, and so on.
    SHAPE = "OR013", Error, "wrong kind of value";
    /// A number without its unit, or with one that does not exist.
    UNIT = "OR014", Error, "unit missing or unknown";
    /// Too small or too large.
    RANGE = "OR015", Error, "value out of range";
    /// Not one of the words.
    WORD = "OR016", Error, "unknown word";
    /// A name, address, match or other text that cannot be read.
    TEXT = "OR017", Error, "malformed text";
    /// A block without the key that gives it sense.
    MISSING_KEY = "OR018", Error, "required key is missing";
    /// A known key in the wrong block.
    MISPLACED_KEY = "OR019", Error, "key belongs elsewhere";
    /// `on:` and its like.
    BOOLEAN_KEY = "OR020", Error, "key that YAML 1.1 reads as a boolean";
    /// Tries, waits and time-outs that contradict one another.
    TRIES_EXCEED_TIMEOUT = "OR021", Error, "tries cannot fit the timeout";
    /// `use` of something that is not there.
    UNKNOWN_PROFILE = "OR022", Error, "unknown profile";
    /// Two entries for the same calls.
    DUPLICATE_UPSTREAM = "OR023", Error, "upstream appears twice";
    /// Two routes for the same calls.
    DUPLICATE_ROUTE = "OR024", Error, "route appears twice";
    /// `off` for something that is always there.
    NOT_OFF = "OR025", Error, "cannot be switched off";
    /// `010`, `0x10`, `1_000`.
    NUMBER = "OR026", Error, "number that YAML versions read differently";
    /// Two values that cannot both be meant.
    CONFLICT = "OR027", Error, "values contradict each other";
    /// Two files give different things one name.
    DUPLICATE_PROFILE = "OR028", Error, "profile appears twice";
    /// The same address twice in a list.
    DUPLICATE_ENDPOINT = "OR029", Error, "endpoint appears twice";
    /// Retries of calls that may not be repeated.
    UNSAFE_RETRY = "OR030", Warn, "retry of unsafe methods";
    /// A budget that does not bound a storm.
    LARGE_BUDGET = "OR031", Warn, "budget above 50%";
    /// A route that nothing reaches.
    UNREACHABLE_ROUTE = "OR032", Warn, "route no request can reach";
    /// A profile that nobody takes.
    UNUSED_PROFILE = "OR033", Warn, "profile never used";
    /// The application encrypts by itself.
    OPAQUE_TLS = "OR034", Warn, "calls that the application encrypts itself";
    /// A protocol in which the server may speak first.
    NEEDS_TCP = "OR035", Warn, "port that needs `protocol: tcp`";
    /// Nothing keeps endpoints in the pool.
    EMPTY_POOL = "OR036", Warn, "ejection can empty the pool";
    /// A breaker that never opens, or opens on nothing.
    ODD_BREAKER = "OR037", Warn, "breaker that cannot do its work";
    /// HTTP policy on a tunnel.
    TUNNEL = "OR038", Warn, "policy that cannot act on a tunnel";
    /// A retry block that retries nothing.
    IDLE_RETRY = "OR039", Warn, "retry that never retries";
    /// Understood, but of a later version.
    NOT_ENFORCED = "OR040", Error, "not enforced by this version";
    /// An ejection that never ejects.
    IDLE_EJECT = "OR041", Warn, "ejection that never ejects";
    /// Reachable from outside the pod.
    OPEN_LISTENER = "OR042", Warn, "listener open to the network";
    /// A time-out that another one makes unreachable.
    IDLE_TIMEOUT = "OR043", Warn, "timeout that never applies";
    /// An end that no longer or hardly comes.
    FAULT_END = "OR052", Warn, "fault whose end is past or far away";
    /// All calls of an upstream.
    WIDE_FAULT = "OR053", Warn, "fault that meets every call";
    /// A fault block without effect.
    IDLE_FAULT = "OR054", Warn, "fault that does not do what it says";
    /// Copies of calls that may not be sent twice.
    UNSAFE_HEDGE = "OR055", Warn, "hedge of unsafe methods";
    /// A hedge block that sends nothing.
    IDLE_HEDGE = "OR056", Warn, "hedge that never hedges";
    /// Everybody may take time and tries away.
    OPEN_TRUST = "OR058", Warn, "hops trusted from everywhere";
    /// `check --chain`: one policy does not lead to the next.
    BROKEN_CHAIN = "OR060", Error, "chain that does not hold together";
    /// `check --chain`: retries multiply.
    AMPLIFIES = "OR061", Warn, "chain that multiplies calls";
    /// `check --chain`: a service works on after its caller has given up.
    WORKS_FOR_NOBODY = "OR062", Warn, "caller that gives up before its callee";
    /// A setting of the balance that makes no difference.
    IDLE_BALANCE = "OR070", Warn, "balance that makes no difference";
    /// One caller may be given what was made for another.
    SHARED_CREDENTIALS = "OR080", Warn, "cache of credentialed answers not keyed per principal";
    /// A cache that keeps nothing, or a part of it that does nothing.
    IDLE_CACHE = "OR081", Warn, "cache that does nothing";
    /// Two times of a cache that do not go together.
    ODD_TTL = "OR082", Warn, "cache times at odds";
    /// A secret that the sender of a request could have sent elsewhere.
    LOOSE_CREDENTIAL = "OR085", Error, "credential that could go elsewhere";
    /// A secret that others can read.
    PLAIN_CREDENTIAL = "OR086", Warn, "credential sent in plain text";
    /// `mtls` and no certificate to show.
    NO_IDENTITY = "OR100", Error, "mtls without identity";
    /// A call inside the cluster that could be protected.
    PLAINTEXT_INSIDE = "OR101", Warn, "plaintext inside the cluster";
    /// Everybody may call the application.
    OPEN_INBOUND = "OR160", Warn, "application open to everybody";
    /// An inbound block whose port is not open.
    IDLE_INBOUND = "OR161", Warn, "inbound without its listener";
    /// A rule that no request meets.
    IDLE_RULE = "OR162", Warn, "rule that no request can meet";
    /// A strict listener without a certificate.
    CLOSED_INBOUND = "OR163", Warn, "inbound that lets nobody in";
    /// The password of Redis is sent in the clear.
    CLEAR_PASSWORD = "OR090", Warn, "password sent in the clear";
    /// What pods are to share, and no Redis to share it in.
    NEEDS_REDIS = "OR091", Error, "shared state without Redis";
    /// A limit of all pods does not say what happens while they cannot count together.
    AWAY_UNSAID = "OR092", Warn, "global limit without a rule for Redis being away";
    /// A rule for Redis being away, where nothing is asked of it.
    IDLE_AWAY = "OR093", Warn, "rule for Redis being away that never applies";
}

/// A file as faults show it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) name: String,
    /// `None` if the file could not be read: then it is here for its name only.
    pub(crate) text: Option<String>,
}

/// A stretch of one of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) span: Span,
}

/// Most errors, and most warnings, that are kept. Nobody reads more, and a file of nothing but faults must not cost more than
/// one of nothing but policy.
const MOST: usize = 500;

/// Collects faults; nothing on the way of a file stops at the first.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) files: Vec<Shown>,
    found: Vec<(Place, Fault)>,
    errors: usize,
    warnings: usize,
}

impl Sink {
    /// Adds a fault. The same one twice, as an alias makes it, is told once.
    pub(crate) fn add(
        &mut self,
        code: Code,
        place: Place,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let count = match code.severity {
            Severity::Error => &mut self.errors,
            Severity::Warn => &mut self.warnings,
        };
        *count += 1;
        if *count <= MOST {
            self.keep(code, place, message.into(), hint);
        } else if code.severity == Severity::Error && *count == MOST + 1 {
            self.keep(
                code::LIMIT,
                place,
                format!("more than {MOST} errors; those found after this place are not told"),
                None,
            );
        }
    }

    fn keep(&mut self, code: Code, place: Place, message: String, hint: Option<String>) {
        let file = self.files.get(place.file);
        let fault = Fault {
            file: file.map_or_else(String::new, |shown| shown.name.clone()),
            line: place.span.line,
            column: place.span.column,
            end_column: place.span.end.max(place.span.column),
            severity: code.severity,
            code: code.code,
            message,
            hint,
            snippet: file
                .and_then(|shown| shown.text.as_deref())
                .map_or_else(String::new, |text| snippet(text, place.span)),
        };
        if !self.found.iter().any(|(_, known)| *known == fault) {
            self.found.push((place, fault));
        }
    }

    /// Takes the text of a place out of all snippets: it may be a secret, and what is told here ends in logs.
    pub(crate) fn hide(&mut self, place: Place) {
        let shown = self.files.get_mut(place.file);
        let Some(text) = shown.and_then(|shown| shown.text.as_mut()) else {
            return;
        };
        let hidden = text.split_inclusive('\n').zip(1..).map(|(line, number)| {
            if number != place.span.line {
                return line.to_owned();
            }
            let is_inside = |at: u32| (place.span.column..place.span.end).contains(&at);
            let blank = |(c, at): (char, u32)| match c {
                '\n' => c,
                _ if is_inside(at) => '*',
                c => c,
            };
            line.chars().zip(1..).map(blank).collect()
        });
        *text = hidden.collect();
        // Something else on its line may have been found before it.
        for (at, fault) in &mut self.found {
            if at.file == place.file && at.span.line == place.span.line {
                fault.snippet = snippet(text, at.span);
            }
        }
    }

    /// Whether any fault so far refuses the policy.
    pub(crate) fn refuses(&self) -> bool {
        self.errors > 0
    }

    /// All faults by file and place.
    pub(crate) fn finish(mut self) -> Vec<Fault> {
        self.found
            .sort_by_key(|(place, fault)| (*place, fault.code));
        self.found.into_iter().map(|(_, fault)| fault).collect()
    }
}

/// Widest part of a line that a snippet shows.
const WIDTH: usize = 100;

/// The line of a span and a caret line under it.
pub(crate) fn snippet(text: &str, span: Span) -> String {
    let Some(line) = usize::try_from(span.line)
        .ok()
        .and_then(|line| line.checked_sub(1))
        .and_then(|at| text.lines().nth(at))
    else {
        return String::new();
    };
    // Control characters could move the caret line or the terminal's cursor.
    let line: Vec<char> = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let start = (span.column.max(1) as usize - 1).min(line.len());
    let end = (span.end as usize)
        .saturating_sub(1)
        .clamp(start, line.len().max(start));
    let from = if end.max(start + 1) > WIDTH {
        start.saturating_sub(WIDTH * 2 / 3)
    } else {
        0
    };
    let shown: String = line.iter().skip(from).take(WIDTH).collect();
    let lead = if from > 0 { "..." } else { "" };
    let carets = end.min(from + WIDTH).saturating_sub(start).max(1);
    let mut out = String::new();
    let pad = " ".repeat(lead.len() + start - from);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:>6} | {lead}{}", span.line, shown.trim_end());
    let _ = writeln!(out, "       | {pad}{}", "^".repeat(carets));
    out
}
