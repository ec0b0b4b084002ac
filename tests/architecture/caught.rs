//! Each rule catches what it is for, and lets pass what it should.

use crate::read::{code, file};
use crate::rules::*;
use crate::said::said;

#[track_caller]
fn caught(faults: &[String], wanted: &[&str]) {
    let all = faults.len() == wanted.len() && faults.iter().zip(wanted).all(|(f, w)| f.contains(w));
    assert!(all, "wanted {wanted:?}, found {faults:#?}");
}

#[test]
fn reading_blanks_comments_and_literals_only() {
    let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i 'j' '\\'' 'k: r#\"l \" m\"# n r#type br\"o\" '\\u{7b}' p";
    let kept: Vec<String> = code(text).split_whitespace().map(str::to_owned).collect();
    assert_eq!(kept, ["a", "e", "i", "'k:", "n", "r#type", "b", "p"]);
    assert_eq!(code(text).lines().count(), 2);
}

#[test]
fn catches_an_upward_import() {
    let plant = |path: &str, text: &str| imports(&file(path, text));
    caught(
        &plant("src/policy/retry/layer.rs", "use crate::config::Policy;\n"),
        &[":1: `policy` names `config`"],
    );
    caught(
        &plant(
            "src/endpoint/pool.rs",
            "\nfn f() { super::super::stack::g() }",
        ),
        &[":2: `endpoint` names `stack`"],
    );
    caught(
        &plant("src/clock.rs", "use crate::{http, rng};"),
        &["names `{`"],
    );
    caught(&plant("src/clock.rs", "use super::*;"), &["names `*`"]);
    caught(
        &plant("src/http/mod.rs", "use crate::nowhere::X;"),
        &["no such module"],
    );
    caught(&plant("src/nowhere.rs", ""), &["no place in ORDER"]);
    let sound = "// crate::app\nuse crate::kit::{a, b};\nuse super::config::S;\nlet s = \"crate::cli\"; pub(crate) fn f() {}";
    caught(&plant("src/policy/retry/layer.rs", sound), &[]);
    caught(&plant("src/main.rs", "use outrider::cli;"), &[]);
}

#[test]
fn catches_a_room_that_names_another() {
    let rooms = ["breaker".to_owned(), "retry".to_owned()];
    let plant = |text: &str| rooms_apart(&file("src/policy/retry/layer.rs", text), &rooms);
    caught(
        &plant("use crate::policy::breaker::State;"),
        &["room `retry` names `policy::breaker::State`"],
    );
    caught(&plant("use super::super::breaker;"), &["policy::breaker"]);
    caught(
        &plant("use crate::policy::{breaker, retry};"),
        &["policy::{"],
    );
    caught(&plant("use super::super::*;"), &["policy::*"]);
    caught(
        &plant("use crate::policy::retry::Settings;\nuse super::machine::judge;\nuse super::*;"),
        &[],
    );
}

#[test]
fn catches_a_room_of_another_shape() {
    let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    caught(&room_shape("retry", &names(ROOM_FILES)), &[]);
    let with_folders = [ROOM_FILES, &["layer", "machine", "tests"]].concat();
    caught(&room_shape("retry", &names(&with_folders)), &[]);
    caught(
        &room_shape("retry", &names(&ROOM_FILES[1..])),
        &["lacks config.rs"],
    );
    caught(
        &room_shape("retry", &names(&[ROOM_FILES, &["util.rs"]].concat())),
        &["util.rs"],
    );
}

#[test]
fn catches_an_impure_machine() {
    let packages = packages(
        "[package]\nname = \"x\"\n[dependencies]\ntokio-util = \"1\"\nhttp = \"1\"\n[profile.dev]\nopt = 1\n",
    );
    assert_eq!(packages, ["tokio_util", "http"]);
    let plant = |path: &str, text: &str| purity(&file(path, text), &packages);
    let machine = "src/policy/retry/machine.rs";
    caught(
        &plant(machine, "let now = Instant::now();"),
        &["`Instant::now`"],
    );
    caught(&plant(machine, "use std::sync::Mutex;"), &["`Mutex`"]);
    caught(&plant(machine, "pub async fn run() {}"), &["`async`"]);
    caught(&plant(machine, "use http::Method;"), &["`http`"]);
    caught(
        &plant(machine, "use crate::http::reason::Reason;"),
        &["`http::reason::Reason`"],
    );
    caught(
        &plant(
            machine,
            "use crate::kit::budget::Budget;\nuse super::config::Settings;\n// tokio_util::",
        ),
        &[],
    );
    let part = "src/policy/retry/machine/part.rs";
    caught(&plant(part, "use std::fs::read;"), &["`std::fs`"]);
    caught(&plant(part, "use http::Method;"), &["`http`"]);
    caught(
        &plant(part, "use crate::policy::breaker::machine::Breaker;"),
        &["`policy::breaker::machine::Breaker`"],
    );
    caught(
        &plant(
            part,
            "use super::other::Part;\nuse super::super::config::Settings;\nuse crate::kit::date;",
        ),
        &[],
    );
    caught(
        &plant("src/kit/ewma.rs", "use crate::clock::now;"),
        &["`clock::now`"],
    );
    caught(
        &plant("src/kit/tests.rs", "let start = Instant::now();"),
        &[],
    );
    caught(
        &plant("src/policy/retry/layer.rs", "use http::Method;"),
        &[],
    );
}

#[test]
fn catches_a_second_reader_of_time_and_chance() {
    let plant = |path: &str, text: &str| time_and_chance(&file(path, text));
    caught(
        &plant("src/endpoint/pool.rs", "let t = Instant::now();"),
        &["`Instant::now`"],
    );
    caught(
        &plant("src/http/mod.rs", "let u = Uuid::now_v7(); rand::random()"),
        &["`rand::`", "`now_v7`"],
    );
    caught(
        &plant("src/listen/mod.rs", "start.elapsed()"),
        &["`elapsed()`"],
    );
    caught(
        &plant(
            "tests/suite/main.rs",
            "Instant::now(); std::thread::sleep(d)",
        ),
        &["`thread::sleep`"],
    );
    caught(&plant("src/clock.rs", "Instant::now()"), &[]);
    caught(&plant("src/policy/retry/tests.rs", "Instant::now()"), &[]);
    caught(
        &plant("src/endpoint/pool.rs", "// Instant::now()\noperand::x"),
        &[],
    );
}

#[test]
fn catches_a_long_file_and_a_long_function() {
    let plant = |text: &str| size(&file("src/http/mod.rs", text));
    let long = |lines: usize| {
        format!(
            "fn f(a: [u8; 2]) {{\n{}}}\n",
            "    let b = \"}\";\n".repeat(lines - 2)
        )
    };
    caught(&plant(&long(69)), &[]);
    caught(&plant(&long(70)), &["fn f has 70 lines"]);
    caught(&plant(&format!("#[test]\n{}", long(70))), &[]);
    caught(
        &plant(&format!(
            "trait T {{\n    fn g();\n}}\ntype F = fn(u8);\n{}",
            long(70)
        )),
        &[":5: fn f has 70"],
    );
    caught(&plant(&"\n".repeat(601)), &["601 lines"]);
    caught(
        &size(&file("src/main.rs", &"\n".repeat(80))),
        &["80 lines, more than 79"],
    );
}

#[test]
fn catches_the_unfinished_and_the_switched_off() {
    let plant = |text: &str| marks(&file("src/http/mod.rs", text));
    caught(&plant("#[allow(dead_code)]"), &["#[allow"]);
    caught(&plant("#[cfg_attr(test, allow(unused))]"), &["allow("]);
    caught(&plant(concat!("#[ign", "ore = \"slow\"]")), &["ore`"]);
    caught(&plant(concat!("to", "do!()")), &["do!"]);
    caught(&plant(concat!("unimple", "mented!()")), &["mented!"]);
    caught(&plant(concat!("// FIX", "ME later")), &["ME`"]);
    caught(&plant(concat!("/* XX", "X */ // HA", "CK")), &["X`", "CK`"]);
    caught(&plant("#[cfg(test)]\nmod tests {\n}"), &["mod tests {"]);
    caught(
        &plant("#[cfg(test)]\nmod tests;\n#[expect(dead_code, reason = \"#[allow\")]"),
        &[],
    );
}

#[test]
fn catches_a_room_nobody_hears_of() {
    let (readme, sample) = ("| `deadline` | x |\n", "- upstream: a\n  timeout: 2s\n");
    let (stack, changelog) = ("deadline::layer()", "- **deadline**: new");
    caught(&registry("deadline", readme, sample, stack, changelog), &[]);
    caught(
        &registry("deadline", "`deadline`", sample, stack, changelog),
        &["README.md"],
    );
    caught(
        &registry("deadline", readme, "# timeout: 2s", stack, changelog),
        &["outrider.yaml"],
    );
    caught(
        &registry("deadline", readme, sample, "let deadline = 1;", changelog),
        &["stack.rs"],
    );
    caught(
        &registry("deadline", readme, sample, stack, "deadline"),
        &["CHANGELOG.md"],
    );
}

#[test]
fn catches_a_reason_nobody_explains() {
    let source =
        "    Reset = \"reset\", 502, \"Closed.\";\n    Panic = \"panic\", 500, \"A bug.\";\n";
    let row = |word: &str, status: &str| format!("| `{word}` | {status} | it broke | look |\n");
    caught(
        &reasons(source, &[row("reset", "502"), row("panic", "500")].concat()),
        &[],
    );
    caught(
        &reasons(source, &row("reset", "502")),
        &["no row for `panic`"],
    );
    caught(
        &reasons(source, &[row("reset", "503"), row("panic", "500")].concat()),
        &["`reset` is 502, not 503"],
    );
    caught(
        &reasons(
            source,
            &[row("reset", "502"), row("panic", "500"), row("x", "1")].concat(),
        ),
        &["no such reason"],
    );
    caught(
        &reasons(
            source,
            "| `reset` | 502 | it broke | |\n| `panic` | 500 | a | b |\n",
        ),
        &["wants word"],
    );
}

#[test]
fn catches_a_rule_without_a_link() {
    let page = "# C\n\n## Rules\n\n- One. See [x](src/a.rs#f).\n- Two.\n\n## More\n- not a rule\n";
    caught(&rules_linked(page), &["no link in: Two."]);
    caught(&rules_linked("# C\n"), &["no rules"]);
    assert_eq!(
        links("[a](b.md) [c](https://d) [e](#f) [g](h/i.rs#j)"),
        ["b.md", "h/i.rs"]
    );
}

#[test]
fn catches_what_is_said_behind_redaction() {
    let plant = |path: &str, text: &str| said(&file(path, text));
    caught(&plant("src/app/mod.rs", "println!(\"x\");"), &["`println`"]);
    caught(
        &plant("src/app/mod.rs", "writeln!(io::stderr(), \"x\");"),
        &["`stderr()`"],
    );
    caught(&plant("src/cli/check.rs", "Paint::to(&io::stdout())"), &[]);
    caught(
        &plant("src/app/mod.rs", "Clean::vetted(path)"),
        &["`Clean::vetted`"],
    );
    caught(
        &plant("src/cli/out.rs", "pub fn put(text: &str) { io::stdout() }"),
        &["`fn put(text: &Clean<'_>)`", "redact::text"],
    );
    caught(&plant("tests/suite/main.rs", "println!(\"x\");"), &[]);
}

#[test]
fn catches_a_threat_that_no_test_shows() {
    let code = "#[test]\nfn held() {}\n#[tokio::test]\nasync fn too() {}\nfn helper() {}\n";
    let tests: Vec<(String, String)> = functions_of_tests(code)
        .into_iter()
        .map(|name| ("path_a".to_owned(), name))
        .collect();
    caught(
        &shown_by("`path_a::held`, `path_a::too` `src/x.rs`", &tests),
        &[],
    );
    caught(
        &shown_by("`path_a::helper` `path_b::held`", &tests),
        &["`path_a::helper`", "`path_b::held`"],
    );
}
