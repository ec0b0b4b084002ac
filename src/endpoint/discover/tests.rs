//! The table row by row, walks over arbitrary answers, the search list and the hosts file. Watches against a name server
//! of our own are in `tests/watch.rs`.

mod server;
mod watch;

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::time::Duration;
use std::time::Instant;

use hickory_resolver::proto::rr;

use super::dns::candidates;
use super::hosts;
use super::machine::Answer;
use super::machine::Name;
use super::machine::Part;
use super::machine::Settings;
use super::machine::Verdict;
use super::machine::Why;
use crate::kit::walk;

const SECOND: Duration = Duration::from_secs(1);

fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last))
}

fn found(addresses: &[IpAddr], ttl: u64) -> Part {
    Part::of(addresses.to_vec(), Duration::from_secs(ttl))
}

fn only_v4(addresses: &[IpAddr], ttl: u64) -> Answer {
    Answer {
        v4: found(addresses, ttl),
        v6: Part::Empty,
    }
}

fn denied() -> Answer {
    Answer {
        v4: Part::Empty,
        v6: Part::Empty,
    }
}

fn table() -> (Name, Instant) {
    let now = walk::start();
    (Name::new(Settings::default(), now), now)
}

#[test]
fn a_and_aaaa_are_joined_sorted_and_unique() {
    let (mut name, now) = table();
    assert_eq!(name.due(), now, "due at once");
    let answer = Answer {
        v4: found(&[v4(2), v4(1), v4(2)], 60),
        v6: found(&[v6(1)], 60),
    };
    let added = vec![v4(1), v4(2), v6(1)];
    assert_eq!(
        name.settle(answer.clone(), now, 0.5),
        Verdict::Changed {
            added: added.clone(),
            removed: vec![]
        }
    );
    assert_eq!(name.addresses(), added);
    assert_eq!(name.settle(answer, now, 0.5), Verdict::Same);
}

#[test]
fn what_came_and_what_went() {
    let (mut name, now) = table();
    name.settle(only_v4(&[v4(1), v4(2)], 60), now, 0.5);
    let changed = name.settle(only_v4(&[v4(2), v4(3)], 60), now, 0.5);
    assert_eq!(
        changed,
        Verdict::Changed {
            added: vec![v4(3)],
            removed: vec![v4(1)]
        }
    );
}

#[test]
fn the_next_lookup_is_before_the_ttl_is_over() {
    for (ttl, used) in [(0, 1), (1, 1), (60, 60), (300, 300), (86_400, 300)] {
        for draw in [0.0, 0.5, 0.999] {
            let (mut name, now) = table();
            name.settle(only_v4(&[v4(1)], ttl), now, draw);
            let wait = name.due() - now;
            let used = Duration::from_secs(used);
            assert!(
                wait >= used.mul_f64(0.74) && wait < used,
                "{ttl} {draw} {wait:?}"
            );
        }
    }
    let (mut name, now) = table();
    name.settle(
        Answer {
            v4: found(&[v4(1)], 60),
            v6: found(&[v6(1)], 10),
        },
        now,
        0.0,
    );
    assert!(
        name.due() - now < 10 * SECOND,
        "the shorter of the two counts"
    );
}

#[test]
fn a_failed_kind_keeps_its_last() {
    let (mut name, now) = table();
    name.settle(
        Answer {
            v4: found(&[v4(1)], 60),
            v6: found(&[v6(1)], 60),
        },
        now,
        0.5,
    );
    let half = Answer {
        v4: found(&[v4(2)], 60),
        v6: Part::Failed(Why::TimedOut),
    };
    let changed = Verdict::Changed {
        added: vec![v4(2)],
        removed: vec![v4(1)],
    };
    assert_eq!(name.settle(half, now, 0.5), changed);
    assert_eq!(name.addresses(), [v4(2), v6(1)]);
    assert_eq!(name.failures(), 0);
    let changed = Verdict::Changed {
        added: vec![],
        removed: vec![v6(1)],
    };
    assert_eq!(
        name.settle(only_v4(&[v4(2)], 60), now, 0.5),
        changed,
        "a denied kind goes at once"
    );
}

#[test]
fn a_failure_keeps_the_last_good_answer_for_ever() {
    let (mut name, mut now) = table();
    name.settle(only_v4(&[v4(1)], 60), now, 0.5);
    for _ in 0..100 {
        now += 3600 * SECOND;
        let verdict = name.settle(Answer::failed(Why::ServerFailed), now, 0.5);
        assert_eq!(
            verdict,
            Verdict::Failed {
                why: Why::ServerFailed,
                kept: 1
            }
        );
        assert_eq!(name.addresses(), [v4(1)]);
    }
    assert_eq!(name.settle(only_v4(&[v4(1)], 60), now, 0.5), Verdict::Same);
    assert_eq!(name.failures(), 0);
}

#[test]
fn failures_back_off_from_1_to_30_seconds() {
    let waits = |draw: f64| {
        let (mut name, now) = table();
        let mut wait = || {
            name.settle(Answer::failed(Why::TimedOut), now, draw);
            (name.due() - now).as_millis()
        };
        [wait(), wait(), wait(), wait(), wait(), wait(), wait()]
    };
    assert_eq!(waits(0.0), [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
    assert_eq!(waits(0.5), [750, 1500, 3000, 6000, 12_000, 22_500, 22_500]);
}

#[test]
fn a_denied_name_outlives_its_denial_by_the_grace() {
    let (mut name, start) = table();
    name.settle(only_v4(&[v4(1)], 5), start, 0.5);
    let mut now = start;
    loop {
        let verdict = name.settle(denied(), now, 0.999);
        if now - start >= 60 * SECOND {
            assert_eq!(
                verdict,
                Verdict::Gone {
                    removed: vec![v4(1)]
                }
            );
            break;
        }
        assert_eq!(
            verdict,
            Verdict::Failed {
                why: Why::NotFound,
                kept: 1
            }
        );
        now = name.due();
    }
    assert_eq!(
        now,
        start + 60 * SECOND,
        "the end of the grace is not slept through"
    );
    assert_eq!(name.addresses(), Vec::<IpAddr>::new());
    assert_eq!(
        name.settle(denied(), now, 0.5),
        Verdict::Failed {
            why: Why::NotFound,
            kept: 0
        }
    );
}

#[test]
fn a_good_answer_ends_the_grace() {
    let (mut name, now) = table();
    name.settle(only_v4(&[v4(1)], 5), now, 0.5);
    name.settle(denied(), now, 0.5);
    name.settle(only_v4(&[v4(1)], 5), now + 59 * SECOND, 0.5);
    let verdict = name.settle(denied(), now + 61 * SECOND, 0.5);
    assert_eq!(
        verdict,
        Verdict::Failed {
            why: Why::NotFound,
            kept: 1
        }
    );
}

#[test]
fn a_failure_beside_a_denial_is_a_failure() {
    let (mut name, now) = table();
    name.settle(only_v4(&[v4(1)], 5), now, 0.5);
    let half = Answer {
        v4: Part::Empty,
        v6: Part::Failed(Why::ServerFailed),
    };
    for hour in 0..5 {
        let verdict = name.settle(half.clone(), now + hour * 3600 * SECOND, 0.5);
        assert_eq!(
            verdict,
            Verdict::Failed {
                why: Why::ServerFailed,
                kept: 1
            }
        );
    }
}

#[test]
fn addresses_are_bounded() {
    let (mut name, now) = table();
    let many: Vec<IpAddr> = (0..1000_u32)
        .map(|n| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)))
        .collect();
    name.settle(only_v4(&many, 60), now, 0.5);
    assert_eq!(name.addresses(), &many[..256]);
}

#[test]
fn hurry_is_bounded_by_the_shortest_ttl() {
    let (mut name, now) = table();
    assert_eq!(name.due_in_a_hurry(), now);
    name.settle(only_v4(&[v4(1)], 300), now, 0.5);
    assert_eq!(name.due_in_a_hurry(), now + SECOND);
    name.settle(Answer::failed(Why::TimedOut), now, 0.0);
    assert_eq!(
        name.due_in_a_hurry(),
        name.due(),
        "never later than planned"
    );
}

#[test]
fn a_kind_without_a_route_is_left_out() {
    let both = Answer {
        v4: found(&[v4(1)], 60),
        v6: found(&[v6(1)], 60),
    };
    let kinds = |answer: Answer| (answer.v4.is_found(), answer.v6.is_found());
    assert_eq!(
        kinds(both.clone().routable(|ip| ip.is_ipv4())),
        (true, false)
    );
    assert_eq!(
        kinds(both.clone().routable(|ip| ip.is_ipv6())),
        (false, true)
    );
    assert_eq!(kinds(both.clone().routable(|_| true)), (true, true));
    assert_eq!(
        kinds(both.routable(|_| false)),
        (true, true),
        "better an error than nothing to try"
    );
    assert!(only_v4(&[v4(1)], 60).routable(|_| false).is_found());
}

#[test]
fn walk_over_arbitrary_answers() {
    let part = |draws: &mut walk::Draws, wide: bool| match draws.below(4) {
        0 => Part::Empty,
        1 => Part::Failed(draws.pick(&[Why::ServerFailed, Why::TimedOut, Why::Refused])),
        _ => {
            let some = (0..=draws.below(6)).map(|_| draws.below(9));
            let addresses = some
                .map(|n| if wide { v6(n as u16) } else { v4(n as u8) })
                .collect();
            Part::of(addresses, Duration::from_secs(draws.below(1000)))
        }
    };
    walk::seeds(|draws| {
        let settings = Settings {
            addresses_max: 1 + draws.below(8) as usize,
            ..Settings::default()
        };
        let mut now = walk::start();
        let mut name = Name::new(settings.clone(), now);
        let mut last_found = None;
        let mut first_denied: Option<Instant> = None;
        for _ in 0..200 {
            now += draws.pause();
            let before = name.addresses().to_vec();
            let answer = Answer {
                v4: part(draws, false),
                v6: part(draws, true),
            };
            let is_found = answer.is_found();
            let is_denied = !is_found && answer.why() == Why::NotFound;
            let verdict = name.settle(answer, now, draws.unit());
            let after = name.addresses();

            assert!(name.due() > now, "never due at once again");
            assert!(name.due() <= now + settings.ttl_max, "never forgotten");
            assert!(name.due_in_a_hurry() > now && name.due_in_a_hurry() <= name.due());
            assert!(after.is_sorted_by(|a, b| a < b) && after.len() <= settings.addresses_max);
            if is_found {
                last_found = Some(now);
                first_denied = None;
            }
            if is_denied {
                first_denied.get_or_insert(now);
            }
            match verdict {
                Verdict::Changed { added, removed } => {
                    assert!(is_found && after != before);
                    assert!(
                        added
                            .iter()
                            .all(|ip| after.contains(ip) && !before.contains(ip))
                    );
                    assert!(
                        removed
                            .iter()
                            .all(|ip| before.contains(ip) && !after.contains(ip))
                    );
                    assert_eq!(before.len() + added.len() - removed.len(), after.len());
                }
                Verdict::Same => assert!(is_found && after == before),
                Verdict::Failed { kept, .. } => {
                    assert!(!is_found && after == before && kept == after.len());
                }
                Verdict::Gone { removed } => {
                    assert!(
                        is_denied && removed == before && after.is_empty() && !before.is_empty()
                    );
                    let since = first_denied.expect("denied");
                    assert!(
                        now - since >= settings.grace
                            && last_found.is_some_and(|found| found <= since)
                    );
                }
            }
            assert_eq!(name.failures() == 0, is_found);
        }
    });
}

fn fqdn(name: &str) -> rr::Name {
    rr::Name::from_str_relaxed(name).expect("a name")
}

#[test]
fn names_are_searched_as_resolv_conf_says() {
    let search = [
        fqdn("ns.svc.cluster.local"),
        fqdn("svc.cluster.local"),
        fqdn("cluster.local"),
    ];
    let of = |name: &str, ndots: usize| {
        let names = candidates(&fqdn(name), &search, ndots);
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let under = |name: &str| {
        [
            ".ns.svc.cluster.local.",
            ".svc.cluster.local.",
            ".cluster.local.",
        ]
        .map(|domain| format!("{name}{domain}"))
    };
    assert_eq!(of("a.b.", 5), ["a.b."], "a trailing dot ends the search");
    assert_eq!(
        of("payments.shop", 5),
        [&under("payments.shop")[..], &["payments.shop.".into()]].concat()
    );
    assert_eq!(
        of("payments.shop", 1),
        [&["payments.shop.".into()][..], &under("payments.shop")].concat()
    );
    assert_eq!(
        of("payments", 1),
        [&under("payments")[..], &["payments.".into()]].concat()
    );
    assert_eq!(candidates(&fqdn("a"), &[], 5), [fqdn("a.")]);
}

#[test]
fn the_hosts_file_is_read_as_hosts_5_says() {
    let text = "# 10.0.0.9 db\n10.0.0.1 db.shop db # 10.0.0.8\n\tfd00::1\tDB\nfe80::1%eth0 db\nbad db\n10.0.0.2 other\n\n10.0.0.3";
    assert_eq!(hosts::addresses(text, "db"), [v4(1), v6(1)]);
    assert_eq!(hosts::addresses(text, "DB.Shop"), [v4(1)]);
    assert_eq!(hosts::addresses(text, "shop"), Vec::<IpAddr>::new());
}
