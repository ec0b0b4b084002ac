//! The rules, each a function from text to faults.

use crate::read::{File, is_word, line_of, module, paths, places};

/// Lowest first. A module may name itself and those before it.
pub const ORDER: &[&str] = &[
    "kit",
    "clock",
    "rng",
    "redact",
    "http",
    "telemetry",
    "audit",
    "identity",
    "connect",
    "shared",
    "endpoint",
    "balance",
    "policy",
    "route",
    "detect",
    "listen",
    "config",
    "stack",
    "admin",
    "app",
    "cli",
];

pub const ROOM_FILES: &[&str] = &[
    "config.rs",
    "layer.rs",
    "machine.rs",
    "metrics.rs",
    "mod.rs",
    "tests.rs",
];

/// The key of a room in the sample policy, where it is not the room's name; `None`: it has nothing to set.
pub const ROOM_KEYS: &[(&str, Option<&str>)] = &[
    // `timeout` is what the writer of a policy asks for; the deadline is what the call carries.
    ("deadline", Some("timeout")),
    // Always on: a call without an identity cannot be found again in a log.
    ("correlation", None),
];

/// Where time and chance may be read, and why.
pub const READERS: &[(&str, &str)] = &[
    ("src/clock.rs", "the one reader of time"),
    ("src/rng.rs", "the one reader of chance"),
    (
        "src/cli/demo",
        "plays client and origin, and measures from outside as a load generator does",
    ),
    (
        "tests/",
        "a start for the arithmetic, and a seed that is printed",
    ),
    ("benches/", "a bench measures time"),
];

/// Compiled for tests only, though not named `tests.rs`, and why.
pub const TEST_SUPPORT: &[(&str, &str)] = &[(
    "src/kit/walk.rs",
    "the seeded walks that the tests of every machine share",
)];

pub const TIME_AND_CHANCE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
    "elapsed()",
    "rand::",
    "now_v7",
    "new_v4",
];

pub const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "elapsed()",
    "Mutex",
    "RwLock",
    "async",
    "await",
    "thread",
    "println",
    "eprintln",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
];

pub const FILE_LINES_MAX: usize = 600;
pub const FUNCTION_LINES_MAX: usize = 69;
pub const MAIN_LINES_MAX: usize = 79;

/// Imports go one way. A group or glob at the crate's level is refused because it hides what is imported.
pub fn imports(f: &File) -> Vec<String> {
    let own = module(&f.path);
    let Some(own) = own.first() else {
        return Vec::new();
    };
    let rank = |name: &str| ORDER.iter().position(|known| *known == name);
    let Some(mine) = rank(own) else {
        return vec![format!("{}: `{own}` has no place in ORDER", f.path)];
    };
    let fault = |(line, path): (usize, Vec<String>)| {
        let target = path.first().map_or("", String::as_str);
        let why = match rank(target) {
            _ if target == "{" || target == "*" => {
                "one `use crate::x::...` a line, so that imports can be read"
            }
            None => "no such module in ORDER",
            Some(theirs) if theirs > mine => "imports go down the ORDER only",
            Some(_) => return None,
        };
        Some(format!(
            "{}:{line}: `{own}` names `{target}`: {why}",
            f.path
        ))
    };
    paths(f).into_iter().filter_map(fault).collect()
}

/// Rooms share request extensions in `http/` and nothing else.
pub fn rooms_apart(f: &File, rooms: &[String]) -> Vec<String> {
    let own = module(&f.path);
    let Some(room) = own
        .get(1)
        .filter(|name| own[0] == "policy" && rooms.contains(name))
    else {
        return Vec::new();
    };
    let foreign = |path: &Vec<String>| {
        path.first().is_some_and(|top| top == "policy")
            && path.get(1).is_some_and(|next| {
                next != room && (rooms.contains(next) || next == "{" || next == "*")
            })
    };
    let named = paths(f).into_iter().filter(|(_, path)| foreign(path));
    named
        .map(|(line, path)| {
            format!(
                "{}:{line}: room `{room}` names `{}`",
                f.path,
                path.join("::")
            )
        })
        .collect()
}

pub fn room_shape(room: &str, files: &[String]) -> Vec<String> {
    let missing = ROOM_FILES
        .iter()
        .filter(|name| !files.iter().any(|f| f == *name));
    // What does not fit one file goes on in the folder of its module.
    let known = |f: &str| ROOM_FILES.contains(&f) || matches!(f, "layer" | "machine" | "tests");
    let extra = files.iter().filter(|f| !known(f));
    missing
        .map(|name| format!("src/policy/{room}/ lacks {name}"))
        .chain(extra.map(|name| {
            format!(
                "src/policy/{room}/{name}: a room has exactly {}",
                ROOM_FILES.join(", ")
            )
        }))
        .collect()
}

pub fn is_test(f: &File) -> bool {
    let support = TEST_SUPPORT.iter().any(|(path, _)| f.path == *path);
    support || f.path.ends_with("/tests.rs") || f.path.contains("/tests/")
}

/// A machine decides from its arguments alone, so that a test can walk it through a year in a millisecond.
pub fn purity(f: &File, packages: &[String]) -> Vec<String> {
    let is_kit = f.path.starts_with("src/kit/");
    let is_machine = f.path.ends_with("/machine.rs") || f.path.contains("/machine/");
    if is_test(f) || !(is_kit || is_machine) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let mut blame = |line: usize, what: &str| {
        faults.push(format!("{}:{line}: a pure file has `{what}`", f.path));
    };
    for word in IMPURE {
        for at in places(&f.code, word) {
            blame(line_of(&f.code, at), word);
        }
    }
    for package in packages {
        for at in places(&f.code, &format!("{package}::")) {
            let inside = f.code[..at].trim_end().ends_with("::"); // `crate::http::` is judged below
            if !inside {
                blame(line_of(&f.code, at), package);
            }
        }
    }
    let own = module(&f.path);
    // A machine's own room: what stands around it, or around the folder in which it goes on.
    let machine = own.iter().rposition(|part| part == "machine");
    let home = &own[..machine.unwrap_or(own.len() - 1)];
    for (line, path) in paths(f) {
        let in_kit = path.first().is_some_and(|top| top == "kit");
        if !in_kit && (is_kit || home.is_empty() || !path.starts_with(home)) {
            blame(line, &path.join("::"));
        }
    }
    faults
}

pub fn packages(manifest: &str) -> Vec<String> {
    let in_table = manifest.lines().scan("", |table, line| {
        if line.starts_with('[') {
            *table = line;
        }
        Some((*table, line))
    });
    let deps = in_table.filter(|(table, _)| table.contains("dependencies]"));
    deps.filter_map(|(_, line)| {
        line.split_once('=')
            .filter(|_| !line.starts_with(['#', '[', ' ']))
    })
    .map(|(name, _)| name.trim().replace('-', "_"))
    .collect()
}

pub fn time_and_chance(f: &File) -> Vec<String> {
    let allowed = is_test(f) || READERS.iter().any(|(prefix, _)| f.path.starts_with(prefix));
    let readers: Vec<&str> = READERS.iter().map(|(path, _)| *path).collect();
    let read = TIME_AND_CHANCE.iter().filter(|_| !allowed);
    // Nobody but the demo and the clock may sleep a thread: a test waits for the event, a worker never blocks.
    let slept = ["thread::sleep"]
        .iter()
        .filter(|_| !f.path.starts_with("src/cli/demo") && f.path != "src/clock.rs");
    read.chain(slept)
        .flat_map(|word| {
            places(&f.code, word)
                .into_iter()
                .map(move |at| (word, line_of(&f.code, at)))
        })
        .map(|(word, line)| {
            format!(
                "{}:{line}: `{word}` outside of {}",
                f.path,
                readers.join(", ")
            )
        })
        .collect()
}

pub fn size(f: &File) -> Vec<String> {
    let lines = f.text.lines().count();
    let max = if f.path == "src/main.rs" {
        MAIN_LINES_MAX
    } else {
        FILE_LINES_MAX
    };
    let file = (lines > max).then(|| format!("{}: {lines} lines, more than {max}", f.path));
    let long = functions(&f.code)
        .into_iter()
        .filter(|(.., lines)| *lines > FUNCTION_LINES_MAX);
    file.into_iter()
        .chain(long.map(|(line, name, lines)| {
            format!(
                "{}:{line}: fn {name} has {lines} lines, more than {FUNCTION_LINES_MAX}",
                f.path
            )
        }))
        .collect()
}

/// Line, name and length of each function with a body. Test functions are left out: a test tells one story from
/// beginning to end, and cutting it in two hides the order.
pub fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for at in places(code, "fn") {
        let rest = code[at + 2..].trim_start();
        let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
        let line = line_of(code, at);
        if name.is_empty() || is_test_function(code, line) {
            continue; // a pointer type, or a macro's `$name`
        }
        let (mut parens, mut braces) = (0_i32, 0_i32);
        for (i, c) in code[at..].char_indices() {
            match c {
                '(' | '[' => parens += 1,
                ')' | ']' => parens -= 1,
                ';' if parens == 0 && braces == 0 => break, // a declaration
                '{' => braces += 1,
                '}' => braces -= 1,
                _ => {}
            }
            if c == '}' && braces == 0 && parens == 0 {
                found.push((line, name, line_of(code, at + i) - line + 1));
                break;
            }
        }
    }
    found
}

/// The names of the test functions of a file.
pub fn functions_of_tests(code: &str) -> Vec<String> {
    let named = |at: usize| -> String {
        let rest = code[at + 2..].trim_start();
        rest.chars().take_while(|&c| is_word(c)).collect()
    };
    places(code, "fn")
        .into_iter()
        .filter(|at| is_test_function(code, line_of(code, *at)))
        .map(named)
        .collect()
}

pub fn is_test_function(code: &str, line: usize) -> bool {
    let lines: Vec<&str> = code.lines().collect();
    let above = lines[..line - 1].iter().rev().map(|l| l.trim());
    let attributes = above.take_while(|l| l.is_empty() || l.starts_with("#[") || l.ends_with(")]"));
    attributes
        .filter(|l| l.starts_with("#["))
        .any(|l| !places(l, "test").is_empty() && !l.contains("cfg"))
}

/// Nothing unfinished, nothing switched off. The words are cut in two here so that this file passes too.
pub fn marks(f: &File) -> Vec<String> {
    let in_code = [
        "#[allow",
        "#![allow",
        ", allow(",
        concat!("#[ign", "ore"),
        concat!("to", "do!"),
        "dbg!",
    ];
    let in_code = in_code
        .into_iter()
        .chain([concat!("unimple", "mented!")])
        .map(|mark| (&f.code, mark));
    let in_text = [
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("HA", "CK"),
        concat!("TO", "DO"),
    ];
    let in_text = in_text.into_iter().map(|mark| (&f.text, mark));
    let inline = f
        .path
        .starts_with("src/")
        .then_some((&f.code, "mod tests {")); // tests live in `tests.rs` beside
    in_code
        .chain(in_text)
        .chain(inline)
        .flat_map(|(text, mark)| {
            places(text, mark)
                .into_iter()
                .map(move |at| (mark, line_of(text, at)))
        })
        .map(|(mark, line)| format!("{}:{line}: `{mark}` does not belong in the tree", f.path))
        .collect()
}

/// A room that is not in the sample, the path, the changelog and the table does not exist for its users.
pub fn registry(
    room: &str,
    readme: &str,
    sample: &str,
    stack: &str,
    changelog: &str,
) -> Vec<String> {
    let key = ROOM_KEYS
        .iter()
        .find(|(name, _)| *name == room)
        .map_or(Some(room), |(_, key)| *key);
    let uncommented: String = sample
        .lines()
        .flat_map(|l| [l.split('#').next().unwrap_or(""), "\n"])
        .collect();
    let row = readme
        .lines()
        .any(|l| l.starts_with('|') && l.contains(&format!("`{room}`")));
    let sampled = key.is_none_or(|key| !places(&uncommented, &format!("{key}:")).is_empty());
    let placed = ["policy::{}", "{}::"]
        .iter()
        .any(|form| !places(stack, &form.replace("{}", room)).is_empty());
    let noted = changelog.contains(&format!("**{room}**"));
    [
        (row, "README.md has no row for it in the table of rooms"),
        (sampled, "config/outrider.yaml does not show its key"),
        (placed, "src/stack.rs does not name it"),
        (noted, "CHANGELOG.md has no line for it"),
    ]
    .iter()
    .filter(|(held, _)| !held)
    .map(|(_, fault)| format!("room `{room}`: {fault}"))
    .collect()
}

/// `(word, status)` of each line of the list in `reason.rs`: `Name = "word", 503, "Title.";`
pub fn reason_words(source: &str) -> Vec<(String, String)> {
    let entry = |line: &str| {
        let (_, rest) = line.trim().split_once(" = \"")?;
        let (word, rest) = rest.split_once("\", ")?;
        let (status, _) = rest.split_once(", \"")?;
        status
            .parse::<u16>()
            .ok()
            .map(|status| (word.to_owned(), status.to_string()))
    };
    source.lines().filter_map(entry).collect()
}

/// Every word has a row with the same status in the page of reasons, and the page has no other.
pub fn reasons(source: &str, page: &str) -> Vec<String> {
    let words = reason_words(source);
    let cells = page.lines().filter(|l| l.starts_with("| `"));
    let rows: Vec<Vec<&str>> = cells
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let row_of = |word: &str| rows.iter().find(|row| row[0].trim_matches('`') == word);
    let missing = words
        .iter()
        .filter_map(|(word, status)| match row_of(word) {
            None => Some(format!("docs/reasons.md has no row for `{word}`")),
            Some(row) if row.len() != 4 || row.iter().any(|cell| cell.is_empty()) => Some(format!(
                "docs/reasons.md: the row of `{word}` wants word, status, meaning and what to do"
            )),
            Some(row) if row[1] != status => Some(format!(
                "docs/reasons.md: `{word}` is {status}, not {}",
                row[1]
            )),
            Some(_) => None,
        });
    let known = |word: &str| words.iter().any(|(known, _)| known == word);
    let stale = rows
        .iter()
        .map(|row| row[0].trim_matches('`'))
        .filter(|word| !known(word));
    missing
        .chain(stale.map(|word| format!("docs/reasons.md: no such reason `{word}`")))
        .collect()
}

/// The targets of a page's links that lead into the project.
pub fn links(page: &str) -> Vec<String> {
    let targets = page
        .match_indices("](")
        .filter_map(|(at, _)| page[at + 2..].split(')').next());
    let inside =
        targets.filter(|t| !t.contains("://") && !t.starts_with(['#', ' ']) && !t.is_empty());
    inside
        .map(|t| t.split('#').next().unwrap_or(t).to_owned())
        .collect()
}

/// A rule nobody can look at is an opinion: each item under `## Rules` links the file that shows it.
pub fn rules_linked(contributing: &str) -> Vec<String> {
    let rules = contributing
        .split("\n## ")
        .find(|section| section.starts_with("Rules"))
        .unwrap_or_default();
    let items: Vec<&str> = rules.split("\n- ").skip(1).collect();
    let bare = items.iter().filter(|item| links(item).is_empty());
    let none = items
        .is_empty()
        .then(|| "CONTRIBUTING.md has no rules".to_owned());
    none.into_iter()
        .chain(bare.map(|item| format!("CONTRIBUTING.md: no link in: {item}")))
        .collect()
}

/// The tests that a page names, `module::function`, that are not there. `tests` are the functions of each module of the suite.
pub fn shown_by(page: &str, tests: &[(String, String)]) -> Vec<String> {
    let named = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| text.starts_with("path_") && text.contains("::"));
    let is_there = |text: &&str| {
        let (module, name) = text.split_once("::").unwrap_or_default();
        tests
            .iter()
            .any(|(known, function)| known == module && function == name)
    };
    named
        .filter(|text| !is_there(text))
        .map(|text| format!("SECURITY.md names `{text}`, which is no test"))
        .collect()
}
