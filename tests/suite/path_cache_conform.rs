//! RFC 9111 and what stands beside it, case by case, over real sockets. The cases are in [`conform/`](conform).
//!
//! A case is a line with a `#`, which says where the rule is written (a section of RFC 9111 where no other is named), and a text, one exchange a line: `REQUEST -> ANSWER => WHAT IS SEEN`, fields with ` | ` between them.
//!
//! - REQUEST: a method, and a path below that of the case; then fields. `+text` is a body.
//! - ANSWER: what the origin answers if it is asked: a status, then fields. `+text` is the body. Left out: 200 without a word.
//! - WHAT IS SEEN: `miss` (the origin was asked), `hit` (it was not), `served` (it may be, behind the client's back), `valid` (it was asked by condition and said 304),
//!   `stale` (it was asked in vain, and what is kept stands in), with the status if it is not 200; then `name: value` that the
//!   answer has, `!name` that it lacks, `+text` for its body, `>name: value` and `>!name` for what the origin was sent.
//!
//! `cache:` says what the policy has, for all cases down to the next such line. `{-60}` is the date a minute ago, `{base}` the path of the case. Nothing waits: what is old says so by `Age` or `Date`.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::path_cache::ALONE;
use crate::support::call::Call;
use crate::support::call::Reply;
use crate::support::origin::Act;
use crate::support::origin::After;
use crate::support::origin::Answer;
use crate::support::origin::Asked;
use crate::support::origin::Origin;
use crate::support::setup::Setup;
use crate::support::wire::Head;
use crate::support::wire::latin1;

/// A case: where it is written, and what happens.
type Case<'a> = (&'a str, &'a str);

/// What the origin was sent, by path and exchange.
type Sent = Arc<Mutex<HashMap<(String, usize), Head>>>;

/// One exchange.
struct Line {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<String>,
    answer: Answer,
    seen: Vec<String>,
}

fn field(text: &str) -> (String, String) {
    let (name, value) = text.split_once(':').expect("name: value");
    (name.trim().to_owned(), value.trim_start().to_owned())
}

/// `{-60}` and `{base}` put in.
fn filled(text: &str, base: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').expect("a closing brace");
        out.push_str(before);
        out.push_str(&match name.parse::<i64>() {
            Ok(seconds) => date(seconds),
            Err(_) => base.to_owned(),
        });
        rest = behind;
    }
    out + rest
}

#[expect(
    clippy::disallowed_methods,
    reason = "an origin has a clock of its own"
)]
fn date(seconds: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn line(text: &str, base: &str, step: usize) -> Line {
    let text = filled(text, base);
    let (exchange, seen) = text.split_once("=>").expect("what is seen");
    let (request, answer) = exchange.split_once("->").unwrap_or((exchange, "200"));
    let mut request = request.split(" | ").map(str::trim);
    let first = request.next().expect("a method");
    let (method, path) = first.split_once(' ').unwrap_or((first, ""));
    let (mut fields, mut body) = (vec![("X-Step".to_owned(), step.to_string())], None);
    for part in request {
        match part.strip_prefix('+') {
            Some(text) => body = Some(text.to_owned()),
            None => fields.push(field(part)),
        }
    }
    let mut parts = answer.split(" | ").map(str::trim);
    let status = parts.next().and_then(|status| status.parse().ok());
    let mut answer = Answer::status(status.expect("a status")).text(&format!("answer {step}"));
    for part in parts {
        answer = if let Some(text) = part.strip_prefix('+') {
            answer.text(text)
        } else {
            let (name, value) = field(part);
            answer.field(&name, &value)
        };
    }
    Line {
        method: method.to_owned(),
        target: format!("{base}{path}"),
        fields,
        body,
        answer,
        seen: seen
            .split(" | ")
            .map(|part| part.trim().to_owned())
            .collect(),
    }
}

fn lines(case: &str, base: &str) -> Vec<Line> {
    let texts = case.lines().filter(|text| !text.trim().is_empty());
    let texts = texts.enumerate();
    texts.map(|(step, text)| line(text, base, step)).collect()
}

/// Carries out the cases against one proxy with this cache. Gives back what came out otherwise.
async fn carry_out(cache: &str, cases: &[Case<'_>]) -> Vec<String> {
    let bases: Vec<_> = (0..cases.len()).map(|at| format!("/c{at}")).collect();
    let cases: Vec<(&str, Vec<Line>)> = std::iter::zip(cases, &bases)
        .map(|((rule, case), base)| (*rule, lines(case, base)))
        .collect();
    let answers: HashMap<(String, usize), Answer> = cases
        .iter()
        .flat_map(|(_, lines)| lines.iter().enumerate())
        .map(|(step, line)| ((line.target.clone(), step), line.answer.clone()))
        .collect();
    let sent = Sent::default();
    let noting = Arc::clone(&sent);
    let origin = Origin::start(move |asked: &Asked<'_>| {
        let step = asked.head.get("x-step").and_then(|step| step.parse().ok());
        let key = (asked.target.to_owned(), step.unwrap_or_default());
        let answer = answers.get(&key).cloned();
        noting.lock().insert(key, asked.head.clone());
        match answer {
            // Not an answer: the connection ends.
            Some(answer) if answer.status == 999 => Act::Raw(Vec::new(), After::Close),
            Some(answer) => Act::Answer(answer),
            None => Act::Answer(Answer::status(500).text("nothing is written for this")),
        }
    })
    .await;
    let settings = format!("{ALONE}cache: {cache}\n");
    let proxy = Setup::shop(&[origin.addr], &settings).start().await;
    let mut wrong = Vec::new();
    for (rule, lines) in &cases {
        for (step, line) in lines.iter().enumerate() {
            let mut call = Call::new(&line.method, &line.target);
            for (name, value) in &line.fields {
                call = call.field(name, value);
            }
            if let Some(body) = &line.body {
                call = call.body(body.as_str());
            }
            let reply = proxy.call(&call).await;
            let asked = sent.lock().get(&(line.target.clone(), step)).cloned();
            if let Err(why) = check(line, &reply, asked.as_ref()) {
                let shown = latin1(&reply.head.raw);
                wrong.push(format!(
                    "{rule}, exchange {step}: {why}\n{shown}{}\n",
                    reply.text()
                ));
                break;
            }
        }
    }
    wrong
}

fn check(line: &Line, reply: &Reply, asked: Option<&Head>) -> Result<(), String> {
    let mut seen = line.seen.iter();
    let what = seen.next().map_or("", String::as_str);
    let (word, status) = what.split_once(' ').unwrap_or((what, "200"));
    let told = reply.head.all("cache-status").join(", ");
    let said = |text: &str| told.contains(text);
    let holds = match word {
        "miss" => asked.is_some() && !said("; hit") && !said("fwd-status"),
        "served" => said("; hit"),
        "hit" => asked.is_none() && said("; hit"),
        "valid" => asked.is_some_and(conditional) && said("fwd-status=304"),
        "stale" => asked.is_some() && said("ttl=-") && said("detail="),
        other => return Err(format!("what is `{other}`?")),
    };
    if !holds {
        return Err(format!("no {word}: {told}"));
    }
    if reply.status.to_string() != status {
        return Err(format!("not {status}: {}", reply.status));
    }
    for part in seen {
        holds_too(part, reply, asked).ok_or_else(|| format!("not so: {part}"))?;
    }
    Ok(())
}

fn conditional(head: &Head) -> bool {
    head.has("if-none-match") || head.has("if-modified-since")
}

fn holds_too(part: &str, reply: &Reply, asked: Option<&Head>) -> Option<()> {
    let (head, part) = match part.strip_prefix('>') {
        Some(part) => (asked?, part),
        None => (&reply.head, part),
    };
    let holds = if let Some(text) = part.strip_prefix('+') {
        reply.text() == text
    } else if let Some(name) = part.strip_prefix('!') {
        !head.has(name)
    } else {
        let (name, value) = field(part);
        head.all(&name).join(", ") == value
    };
    holds.then_some(())
}

/// All cases of a text.
///
/// # Panics
/// When one does not come out as it is written, with all that do not.
async fn carry_out_all(text: &str) {
    let mut wrong = Vec::new();
    for part in text.split("cache: ").skip(1) {
        let (cache, rest) = part.split_once('\n').expect("a policy on a line");
        let cases = rest.split("# ").skip(1);
        let cases: Vec<Case<'_>> = cases
            .map(|case| case.split_once('\n').expect("a rule on a line"))
            .collect();
        assert!(!cases.is_empty(), "{cache}");
        wrong.extend(carry_out(cache, &cases).await);
    }
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

macro_rules! conform {
    ($($test:ident $file:literal)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                carry_out_all(include_str!(concat!("conform/", $file, ".txt"))).await;
            }
        )*
    };
}

conform! {
    cache_control_gives_freshness "freshness"
    cache_control_is_read_as_written "syntax"
    age_is_counted_from_all_that_tells_it "age"
    expires_is_a_date_or_the_past "expires"
    a_target_of_its_own_wins "targets"
    statuses_with_a_lifetime_are_kept "statuses"
    statuses_without_one_are_guessed_about_only_where_that_is_allowed "guesses"
    directives_say_what_is_kept "directives"
    credentials_and_cookies "credentials"
    fields_are_kept_but_for_those_of_one_exchange "fields"
    a_304_brings_fields_up_to_date "not_modified"
    an_answer_to_head_brings_fields_up_to_date "head"
    vary_tells_answers_apart "vary"
    the_key_is_the_url "keys"
    unsafe_methods_take_away_what_they_may_change "unsafe"
    a_client_limits_what_it_takes "limits"
    a_condition_is_answered_from_what_is_kept "conditions"
    ranges_are_served_from_what_is_whole "ranges"
    parts_answer_what_lies_in_them "parts"
    stale_answers_where_they_are_allowed "stale"
}
