use std::time::Duration;

use crate::cli::demo::origin::Arrived;
use crate::cli::demo::policy;
use crate::cli::demo::scrape;
use crate::cli::demo::scrape::View;
use crate::cli::demo::script::Behaviour;
use crate::cli::demo::script::ENDPOINTS;
use crate::cli::demo::script::Script;
use crate::cli::demo::script::scramble;
use crate::cli::demo::story::Event;
use crate::cli::demo::story::Light;
use crate::cli::demo::story::Story;
use crate::cli::demo::summary::Report;
use crate::cli::demo::table;
use crate::cli::demo::table::Column;
use crate::cli::demo::table::Snapshot;
use crate::cli::demo::tally::End;
use crate::cli::demo::tally::Figures;
use crate::cli::demo::tally::Sample;
use crate::cli::demo::tally::Tally;
use crate::cli::paint::Paint;

const PLAIN: Paint = Paint(false);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn script() -> Script {
    Script::new(ms(30_000), 1)
}

fn sample(begin: u64, end: u64, how: End) -> Sample {
    Sample {
        begin: ms(begin),
        end: ms(end),
        how,
    }
}

#[test]
fn phases_cover_the_whole_duration_without_a_gap() {
    for seconds in [5, 7, 30, 3600] {
        let script = Script::new(Duration::from_secs(seconds), 9);
        let mut clock = Duration::ZERO;
        for (begin, end, phase) in script.phases() {
            assert_eq!(begin, clock, "{} of {seconds} s", phase.name);
            assert!(end > begin, "{} of {seconds} s", phase.name);
            clock = end;
        }
        assert_eq!(clock, script.total());
    }
}

#[test]
fn one_endpoint_at_a_time_then_all_then_none() {
    let script = script();
    let ailing: Vec<usize> = script
        .phases()
        .map(|(_, _, phase)| {
            phase
                .endpoints
                .iter()
                .filter(|b| **b != Behaviour::Answer)
                .count()
        })
        .collect();
    assert_eq!(ailing, [0, 1, 1, 1, ENDPOINTS, 0]);
}

#[test]
fn every_seed_gives_each_endpoint_one_part() {
    for seed in 0..1000 {
        let script = Script::new(ms(30_000), seed);
        let mut parts: Vec<usize> = script
            .phases()
            .skip(1)
            .take(ENDPOINTS)
            .filter_map(|(_, _, phase)| {
                phase.endpoints.iter().position(|b| *b != Behaviour::Answer)
            })
            .collect();
        parts.sort_unstable();
        assert_eq!(parts, [0, 1, 2], "seed {seed}");
    }
    let firsts: std::collections::HashSet<u64> =
        (0..100).map(|seed| scramble(seed, 0) % 3).collect();
    assert_eq!(firsts.len(), 3, "seeds change the cast");
}

#[test]
fn after_the_end_the_last_phase_holds() {
    let script = script();
    assert_eq!(script.phase_at(ms(29_999)).name, "recovery");
    assert_eq!(script.phase_at(ms(99_000)).name, "recovery");
    assert_eq!(script.behaviour(2, ms(99_000)), Behaviour::Answer);
}

#[test]
fn the_outage_is_the_phase_where_all_are_down() {
    let script = script();
    let (down, up) = script.outage();
    assert_eq!((down, up), (ms(18_000), ms(22_800)));
    assert_eq!(script.behaviour(0, down), Behaviour::Down);
    assert_eq!(script.behaviour(0, up), Behaviour::Answer);
}

#[test]
fn faults_alone_leave_a_round_robin_caller_about_three_quarters() {
    // 12 + 16 * 2/3 + 16 + 16 * 2/3 + 0 + 24 percent: slow answers are answers.
    let expected = 0.12 + 0.16 * 2.0 / 3.0 + 0.16 + 0.16 * 2.0 / 3.0 + 0.24;
    assert!((script().expected_straight() - expected).abs() < 1e-12);
}

#[test]
fn tally_counts_and_leaves_failures_out_of_the_percentiles() {
    let mut tally = Tally::default();
    for n in 0..100 {
        tally.begin();
        tally.add(sample(n, n + 10, End::Ok));
    }
    tally.begin();
    tally.add(sample(100, 2100, End::TimedOut));
    tally.begin();
    let figures = tally.figures();
    assert_eq!(figures.requests, 102);
    assert!((figures.success - 100.0 / 101.0).abs() < 1e-12);
    assert!((figures.p50_ms - 10.0).abs() < 0.1, "{}", figures.p50_ms);
    assert!((figures.p99_ms - 10.0).abs() < 0.1, "{}", figures.p99_ms);
}

#[test]
fn tally_of_nothing_is_zero() {
    assert_eq!(Tally::default().figures(), Figures::default());
    assert_eq!(Tally::default().last_second(ms(5000)), None);
}

#[test]
fn last_second_looks_at_ends() {
    let mut tally = Tally::default();
    tally.add(sample(0, 900, End::Status(503)));
    tally.add(sample(0, 2100, End::Ok));
    tally.add(sample(2000, 2200, End::Broken));
    assert_eq!(tally.last_second(ms(2500)), Some(0.5));
}

#[test]
fn retriable_leaves_out_the_outage_and_the_time_to_close() {
    let script = script();
    let mut tally = Tally::default();
    tally.add(sample(1000, 1010, End::Ok));
    tally.add(sample(17_990, 18_005, End::Broken)); // ran into the outage
    tally.add(sample(20_000, 20_001, End::Status(503)));
    tally.add(sample(23_000, 23_001, End::Status(503))); // recovered, breaker still open
    tally.add(sample(25_000, 25_010, End::Ok));
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    near(tally.retriable_success(&script, Some(ms(24_000))), 1.0);
    // A breaker that never closed is not excused.
    near(tally.retriable_success(&script, None), 2.0 / 3.0);
    // A failure before the outage counts, whatever the breaker did.
    tally.add(sample(9000, 9001, End::Status(503)));
    near(
        tally.retriable_success(&script, Some(ms(24_000))),
        2.0 / 3.0,
    );
    assert_eq!(tally.between(ms(22_800), ms(24_000)), (0, 1));
}

#[test]
fn metrics_text_is_read() {
    let text = r#"# HELP outrider_breaker_state 0 closed, 1 half-open, 2 open
outrider_breaker_state{upstream="payments.demo",route="*"} 2
outrider_breaker_transitions_total{upstream="payments.demo",route="*",from="closed",to="open"} 2
outrider_breaker_transitions_total{upstream="payments.demo",route="*",from="half_open",to="open"} 3
outrider_breaker_transitions_total{upstream="payments.demo",route="*",from="open",to="half_open"} 4
outrider_breaker_transitions_total{upstream="payments.demo",route="*",from="half_open",to="closed"} 1
outrider_ejections_total{upstream="payments.demo",cause="consecutive"} 7
outrider_endpoints_ejected{upstream="payments.demo"} 1
outrider_retries_total{upstream="payments.demo",route="*",reason="reset"} 5
outrider_retries_total{upstream="payments.demo",route="*",reason="status"} 6 1700000000
outrider_something_else 12
nonsense
# EOF
"#;
    let view = scrape::read(text);
    let expected = View {
        state: Light::Open,
        opened: 5,
        probing: 4,
        closed: 1,
        ejections: 7,
        ejected: Some(1),
        retries: 11,
    };
    assert_eq!(view, expected);
    assert_eq!(scrape::read(""), View::default());
}

#[test]
fn breaker_state_as_one_series_per_state_is_read() {
    let text = |on: &str| {
        ["closed", "half_open", "open"]
            .map(|state| {
                format!(
                    "outrider_breaker_state{{state=\"{state}\"}} {}\n",
                    u8::from(state == on)
                )
            })
            .concat()
    };
    assert_eq!(scrape::read(&text("closed")).state, Light::Closed);
    assert_eq!(scrape::read(&text("half_open")).state, Light::HalfOpen);
    assert_eq!(scrape::read(&text("open")).state, Light::Open);
}

fn view(state: Light, opened: u64, probing: u64, closed: u64) -> View {
    View {
        state,
        opened,
        probing,
        closed,
        ..View::default()
    }
}

/// A breaker that opens in the outage, probes once in vain, and closes after the recovery.
fn story() -> Story {
    let mut story = Story::default();
    story.observe(ms(10_000), view(Light::Closed, 0, 0, 0));
    story.observe(ms(18_600), view(Light::Open, 1, 0, 0));
    story.observe(ms(20_000), view(Light::Open, 2, 1, 0));
    story.observe(ms(24_000), view(Light::Closed, 2, 2, 1));
    story
}

#[test]
fn story_orders_what_happened_between_two_looks() {
    let told: Vec<Event> = story().events.iter().map(|(_, event)| *event).collect();
    assert_eq!(
        told,
        [
            Event::Opened,
            Event::Probing,
            Event::Opened,
            Event::Probing,
            Event::Closed
        ]
    );
    let mut flash = Story::default();
    flash.observe(ms(1), view(Light::Closed, 1, 1, 1));
    let told: Vec<Event> = flash.events.iter().map(|(_, event)| *event).collect();
    assert_eq!(told, [Event::Opened, Event::Probing, Event::Closed]);
}

#[test]
fn story_knows_when_the_breaker_closed_for_good() {
    let mut story = story();
    assert_eq!(story.closed_after(ms(22_800)), Some(ms(24_000)));
    assert_eq!(story.closed_after(ms(25_000)), None);
    story.observe(ms(26_000), view(Light::Open, 3, 2, 1));
    assert_eq!(story.closed_after(ms(22_800)), None, "open at the end");
}

fn column(success: f64, requests: u64, tries: u64) -> Column {
    Column {
        now: Some(success),
        figures: Figures {
            requests,
            success,
            p50_ms: 4.0,
            p99_ms: 251.0,
        },
        tries: Arrived {
            all: tries,
            down: 12,
        },
    }
}

#[test]
fn summary_says_it_in_words_and_in_json() {
    let (script, story) = (script(), story());
    let report = Report {
        script: &script,
        straight: column(0.7333, 6000, 6000),
        outrider: column(0.83, 6000, 5400),
        retriable: (0.87, 1.0),
        by_phase: (
            vec![1.0, 0.66, 1.0, 0.66, 0.0, 1.0],
            vec![1.0, 1.0, 1.0, 0.999, 0.0, 0.9],
        ),
        lost_in_recovery: 240,
        story: &story,
    };
    let words = report.words(PLAIN);
    assert!(
        words.contains("The breaker opened at 18.6 s, 0.6 s after the last endpoint went down"),
        "{words}"
    );
    assert!(
        words.contains("probed once in vain, and closed at 24.0 s, 1.2 s after the recovery"),
        "{words}"
    );
    assert!(words.contains("240 requests"), "{words}");
    assert!(
        words.contains(&table::row("- one resetting", "66.00 %", "99.90 %")),
        "{words}"
    );
    assert!(!words.contains('\x1b'));

    let text = report.json().expect("numbers can be written");
    assert!(
        text.starts_with("{\"straight\":{") && !text.contains('\n'),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    for side in ["straight", "outrider"] {
        for field in ["success", "p50_ms", "p99_ms", "requests", "tries"] {
            assert!(json[side][field].is_number(), "{side}.{field} in {json}");
        }
    }
    assert_eq!(json["outrider"]["retriable_success"], 1.0);
    assert_eq!(json["outrider"]["tries"], 5400);
    assert_eq!(json["breaker"]["opened"], 2);
    assert_eq!(json["breaker"]["closed"], 1);
    assert_eq!(json["breaker"]["recovery_s"], 1.2);
}

#[test]
fn summary_of_a_breaker_that_never_opened() {
    let (script, story) = (script(), Story::default());
    let report = Report {
        script: &script,
        straight: Column::default(),
        outrider: Column::default(),
        retriable: (0.0, 0.0),
        by_phase: (Vec::new(), Vec::new()),
        lost_in_recovery: 0,
        story: &story,
    };
    assert!(report.words(PLAIN).contains("The breaker never opened."));
    let json = report.json().expect("numbers can be written");
    assert!(json.contains("\"recovery_s\":null"), "{json}");
}

fn snapshot() -> Snapshot {
    Snapshot {
        phase: "all down",
        elapsed: ms(19_000),
        total: ms(30_000),
        straight: column(0.0, 3800, 3800),
        outrider: column(0.9996, 3800, 4028),
        light: Light::Open,
        ejected: 1,
        retries: 228,
    }
}

#[test]
fn table_lines_have_one_width_with_and_without_colour() {
    let plain = table::live(&snapshot(), PLAIN);
    let painted = table::live(&snapshot(), Paint(true));
    assert!(painted.contains("\x1b[31m"), "an open breaker is red");
    let mut stripped = String::new();
    let mut rest = painted.as_str();
    while let Some((before, code)) = rest.split_once('\x1b') {
        stripped.push_str(before);
        rest = code.split_once('m').map_or("", |(_, after)| after);
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain);
    for line in plain.lines().skip(1) {
        assert_eq!(line.chars().count(), 58, "{line}");
    }
}

#[test]
fn plain_line_tells_phase_and_both_sides() {
    let line = table::line(&snapshot());
    assert!(line.starts_with(" 19.0s  all down "), "{line}");
    assert!(line.contains("straight 0.00 %  through 99.96 %"), "{line}");
    assert!(line.contains("tries/request 1.00 / 1.06"), "{line}");
    assert!(!line.contains('\n'));
}

#[test]
fn percent_never_rounds_up_to_a_hundred() {
    assert_eq!(table::percent(Some(1.0)), "100 %");
    assert_eq!(table::percent(Some(0.999_999)), "99.99 %");
    assert_eq!(table::percent(Some(0.0)), "0.00 %");
    assert_eq!(table::percent(None), "-");
}

#[test]
fn policy_keeps_its_breaker_quick_enough_for_the_play() {
    let endpoints = [
        "127.0.0.1:1".parse().expect("an address"),
        "127.0.0.1:2".parse().expect("an address"),
    ];
    let short = policy::shown(&endpoints, ms(5000));
    assert!(
        short.contains("over: 1000ms, open: 150ms, open_max: 300ms"),
        "{short}"
    );
    assert!(
        short.contains("endpoints: [\"127.0.0.1:1\", \"127.0.0.1:2\"]"),
        "{short}"
    );
    let long = policy::shown(&endpoints, ms(600_000));
    assert!(
        long.contains("over: 2000ms, open: 500ms, open_max: 1000ms"),
        "{long}"
    );
}
