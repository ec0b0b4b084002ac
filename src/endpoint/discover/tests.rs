//! The table row by row, walks over arbitrary answers, and watches against a name server of our own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use hickory_resolver::proto::rr;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::dns::candidates;
use super::hosts;
use super::machine::Answer;
use super::machine::Name;
use super::machine::Part;
use super::machine::Settings;
use super::machine::Verdict;
use super::*;
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
    Answer { v4: found(addresses, ttl), v6: Part::Empty }
}

fn denied() -> Answer {
    Answer { v4: Part::Empty, v6: Part::Empty }
}

fn table() -> (Name, Instant) {
    let now = walk::start();
    (Name::new(Settings::default(), now), now)
}

#[test]
fn a_and_aaaa_are_joined_sorted_and_unique() {
    let (mut name, now) = table();
    assert_eq!(name.due(), now, "due at once");
    let answer = Answer { v4: found(&[v4(2), v4(1), v4(2)], 60), v6: found(&[v6(1)], 60) };
    let added = vec![v4(1), v4(2), v6(1)];
    assert_eq!(name.settle(answer.clone(), now, 0.5), Verdict::Changed { added: added.clone(), removed: vec![] });
    assert_eq!(name.addresses(), added);
    assert_eq!(name.settle(answer, now, 0.5), Verdict::Same);
}

#[test]
fn what_came_and_what_went() {
    let (mut name, now) = table();
    name.settle(only_v4(&[v4(1), v4(2)], 60), now, 0.5);
    let changed = name.settle(only_v4(&[v4(2), v4(3)], 60), now, 0.5);
    assert_eq!(changed, Verdict::Changed { added: vec![v4(3)], removed: vec![v4(1)] });
}

#[test]
fn the_next_lookup_is_before_the_ttl_is_over() {
    for (ttl, used) in [(0, 1), (1, 1), (60, 60), (300, 300), (86_400, 300)] {
        for draw in [0.0, 0.5, 0.999] {
            let (mut name, now) = table();
            name.settle(only_v4(&[v4(1)], ttl), now, draw);
            let wait = name.due() - now;
            let used = Duration::from_secs(used);
            assert!(wait >= used.mul_f64(0.74) && wait < used, "{ttl} {draw} {wait:?}");
        }
    }
    let (mut name, now) = table();
    name.settle(Answer { v4: found(&[v4(1)], 60), v6: found(&[v6(1)], 10) }, now, 0.0);
    assert!(name.due() - now < 10 * SECOND, "the shorter of the two counts");
}

#[test]
fn a_failed_kind_keeps_its_last() {
    let (mut name, now) = table();
    name.settle(Answer { v4: found(&[v4(1)], 60), v6: found(&[v6(1)], 60) }, now, 0.5);
    let half = Answer { v4: found(&[v4(2)], 60), v6: Part::Failed(Why::TimedOut) };
    let changed = Verdict::Changed { added: vec![v4(2)], removed: vec![v4(1)] };
    assert_eq!(name.settle(half, now, 0.5), changed);
    assert_eq!(name.addresses(), [v4(2), v6(1)]);
    assert_eq!(name.failures(), 0);
    let changed = Verdict::Changed { added: vec![], removed: vec![v6(1)] };
    assert_eq!(name.settle(only_v4(&[v4(2)], 60), now, 0.5), changed, "a denied kind goes at once");
}

#[test]
fn a_failure_keeps_the_last_good_answer_for_ever() {
    let (mut name, mut now) = table();
    name.settle(only_v4(&[v4(1)], 60), now, 0.5);
    for _ in 0..100 {
        now += 3600 * SECOND;
        let verdict = name.settle(Answer::failed(Why::ServerFailed), now, 0.5);
        assert_eq!(verdict, Verdict::Failed { why: Why::ServerFailed, kept: 1 });
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
            (name.due() - now).as_secs_f64()
        };
        [wait(), wait(), wait(), wait(), wait(), wait(), wait()]
    };
    assert_eq!(waits(0.0), [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]);
    assert!(waits(0.999).iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]).all(|(got, max)| *got <= max));
}

#[test]
fn a_denied_name_outlives_its_denial_by_the_grace() {
    let (mut name, start) = table();
    name.settle(only_v4(&[v4(1)], 5), start, 0.5);
    let mut now = start;
    loop {
        let verdict = name.settle(denied(), now, 0.999);
        if now - start >= 60 * SECOND {
            assert_eq!(verdict, Verdict::Gone { removed: vec![v4(1)] });
            break;
        }
        assert_eq!(verdict, Verdict::Failed { why: Why::NotFound, kept: 1 });
        now = name.due();
    }
    assert_eq!(now, start + 60 * SECOND, "the end of the grace is not slept through");
    assert_eq!(name.addresses(), Vec::<IpAddr>::new());
    assert_eq!(name.settle(denied(), now, 0.5), Verdict::Failed { why: Why::NotFound, kept: 0 });
}

#[test]
fn a_good_answer_ends_the_grace() {
    let (mut name, now) = table();
    name.settle(only_v4(&[v4(1)], 5), now, 0.5);
    name.settle(denied(), now, 0.5);
    name.settle(only_v4(&[v4(1)], 5), now + 59 * SECOND, 0.5);
    let verdict = name.settle(denied(), now + 61 * SECOND, 0.5);
    assert_eq!(verdict, Verdict::Failed { why: Why::NotFound, kept: 1 });
}

#[test]
fn a_failure_beside_a_denial_is_a_failure() {
    let (mut name, now) = table();
    name.settle(only_v4(&[v4(1)], 5), now, 0.5);
    let half = Answer { v4: Part::Empty, v6: Part::Failed(Why::ServerFailed) };
    for hour in 0..5 {
        let verdict = name.settle(half.clone(), now + hour * 3600 * SECOND, 0.5);
        assert_eq!(verdict, Verdict::Failed { why: Why::ServerFailed, kept: 1 });
    }
}

#[test]
fn addresses_are_bounded() {
    let (mut name, now) = table();
    let many: Vec<IpAddr> = (0..1000_u32).map(|n| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))).collect();
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
    assert_eq!(name.due_in_a_hurry(), name.due(), "never later than planned");
}

#[test]
fn a_kind_without_a_route_is_left_out() {
    let both = Answer { v4: found(&[v4(1)], 60), v6: found(&[v6(1)], 60) };
    let kinds = |answer: Answer| (answer.v4.is_found(), answer.v6.is_found());
    assert_eq!(kinds(both.clone().routable(|ip| ip.is_ipv4())), (true, false));
    assert_eq!(kinds(both.clone().routable(|ip| ip.is_ipv6())), (false, true));
    assert_eq!(kinds(both.clone().routable(|_| true)), (true, true));
    assert_eq!(kinds(both.routable(|_| false)), (true, true), "better an error than nothing to try");
    assert!(only_v4(&[v4(1)], 60).routable(|_| false).is_found());
}

#[test]
fn walk_over_arbitrary_answers() {
    let part = |draws: &mut walk::Draws, wide: bool| match draws.below(4) {
        0 => Part::Empty,
        1 => Part::Failed(draws.pick(&[Why::ServerFailed, Why::TimedOut, Why::Refused])),
        _ => {
            let some = (0..=draws.below(6)).map(|_| draws.below(9));
            let addresses = some.map(|n| if wide { v6(n as u16) } else { v4(n as u8) }).collect();
            Part::of(addresses, Duration::from_secs(draws.below(1000)))
        }
    };
    walk::seeds(|draws| {
        let settings = Settings { addresses_max: 1 + draws.below(8) as usize, ..Settings::default() };
        let mut now = walk::start();
        let mut name = Name::new(settings.clone(), now);
        let mut last_found = None;
        let mut first_denied: Option<Instant> = None;
        for _ in 0..200 {
            now += draws.pause();
            let before = name.addresses().to_vec();
            let answer = Answer { v4: part(draws, false), v6: part(draws, true) };
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
                    assert!(added.iter().all(|ip| after.contains(ip) && !before.contains(ip)));
                    assert!(removed.iter().all(|ip| before.contains(ip) && !after.contains(ip)));
                    assert_eq!(before.len() + added.len() - removed.len(), after.len());
                }
                Verdict::Same => assert!(is_found && after == before),
                Verdict::Failed { kept, .. } => {
                    assert!(!is_found && after == before && kept == after.len());
                }
                Verdict::Gone { removed } => {
                    assert!(is_denied && removed == before && after.is_empty() && !before.is_empty());
                    let since = first_denied.expect("denied");
                    assert!(now - since >= settings.grace && last_found.is_some_and(|found| found <= since));
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
    let search = [fqdn("ns.svc.cluster.local"), fqdn("svc.cluster.local"), fqdn("cluster.local")];
    let of = |name: &str, ndots: usize| {
        let names = candidates(&fqdn(name), &search, ndots);
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let under = |name: &str| {
        [".ns.svc.cluster.local.", ".svc.cluster.local.", ".cluster.local."].map(|domain| format!("{name}{domain}"))
    };
    assert_eq!(of("a.b.", 5), ["a.b."], "a trailing dot ends the search");
    assert_eq!(of("payments.shop", 5), [&under("payments.shop")[..], &["payments.shop.".into()]].concat());
    assert_eq!(of("payments.shop", 1), [&["payments.shop.".into()][..], &under("payments.shop")].concat());
    assert_eq!(of("payments", 1), [&under("payments")[..], &["payments.".into()]].concat());
    assert_eq!(candidates(&fqdn("a"), &[], 5), [fqdn("a.")]);
}

#[test]
fn the_hosts_file_is_read_as_hosts_5_says() {
    let text = "# 10.0.0.9 db\n10.0.0.1 db.shop db # 10.0.0.8\n\tfd00::1\tDB\nfe80::1%eth0 db\nbad db\n10.0.0.2 other\n\n10.0.0.3";
    assert_eq!(hosts::addresses(text, "db"), [v4(1), v6(1)]);
    assert_eq!(hosts::addresses(text, "DB.Shop"), [v4(1)]);
    assert_eq!(hosts::addresses(text, "shop"), Vec::<IpAddr>::new());
}

/// How the name server answers one question.
#[derive(Clone, Debug)]
enum Reply {
    Addresses(Vec<IpAddr>, u32),
    /// One CNAME, then addresses.
    Through(&'static str, Vec<IpAddr>, u32),
    /// Cut off over UDP, whole over TCP.
    Truncated(Vec<IpAddr>, u32),
    Code(u8),
    Silence,
}

const A: u16 = 1;
const AAAA: u16 = 28;
const NO_DATA: Reply = Reply::Code(0);
const SERVFAIL: Reply = Reply::Code(2);
const NXDOMAIN: Reply = Reply::Code(3);
const REFUSED: Reply = Reply::Code(5);

/// A name server on loopback that says what the test wants. What it was not told about does not exist.
#[derive(Clone, Default)]
struct Server {
    replies: Arc<Mutex<HashMap<(String, u16), Reply>>>,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

impl Server {
    async fn start() -> (Self, SocketAddr) {
        let server = Self::default();
        // TCP first: its port is more likely to be taken for UDP's than the other way round.
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("bound");
        let udp = UdpSocket::bind(address).await.expect("the same port");
        tokio::spawn(server.clone().serve_udp(udp));
        tokio::spawn(server.clone().serve_tcp(tcp));
        (server, address)
    }

    fn say(&self, name: &str, kind: u16, reply: Reply) {
        self.replies.lock().insert((name.to_owned(), kind), reply);
    }

    /// A as given, AAAA alike where that makes sense.
    fn say_both(&self, name: &str, reply: Reply) {
        self.say(name, A, reply.clone());
        self.say(name, AAAA, reply);
    }

    fn asked(&self) -> Vec<(String, u16)> {
        self.asked.lock().clone()
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if let Some(reply) = self.reply(&buffer[..length], false) {
                socket.send_to(&reply, from).await.expect("loopback");
            }
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let server = self.clone();
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut query = vec![0; usize::from(length)];
                    stream.read_exact(&mut query).await.expect("a whole query");
                    if let Some(reply) = server.reply(&query, true) {
                        let mut framed = u16::try_from(reply.len()).expect("short").to_be_bytes().to_vec();
                        framed.extend(reply);
                        stream.write_all(&framed).await.expect("still open");
                    }
                }
            });
        }
    }

    fn reply(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let (name, end) = read_name(query, 12);
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        self.asked.lock().push((name.clone(), kind));
        let reply = self.replies.lock().get(&(name, kind)).cloned().unwrap_or(NXDOMAIN);
        let (code, truncated, answers) = match reply {
            Reply::Silence => return None,
            Reply::Code(code) => (code, false, vec![]),
            Reply::Truncated(..) if !tcp => (0, true, vec![]),
            Reply::Addresses(all, ttl) | Reply::Truncated(all, ttl) => {
                (0, false, all.iter().map(|ip| record(&[0xc0, 12], ip, ttl)).collect())
            }
            Reply::Through(target, all, ttl) => {
                let target = write_name(target);
                let mut alias = vec![0xc0, 12, 0, 5, 0, 1];
                alias.extend(ttl.to_be_bytes());
                alias.extend(u16::try_from(target.len()).expect("short").to_be_bytes());
                alias.extend(&target);
                let addresses = all.iter().map(|ip| record(&target, ip, 3600));
                (0, false, std::iter::once(alias).chain(addresses).collect())
            }
        };
        let mut message = query[..2].to_vec();
        message.extend([0x81 | if truncated { 2 } else { 0 }, 0x80 | code, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
        message.extend(&query[12..end + 4]);
        answers.iter().for_each(|answer| message.extend(answer));
        Some(message)
    }
}

fn read_name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut name = String::new();
    while message[at] != 0 {
        let length = usize::from(message[at]);
        name.push_str(std::str::from_utf8(&message[at + 1..=at + length]).expect("ASCII"));
        name.push('.');
        at += length + 1;
    }
    (name.to_ascii_lowercase(), at + 1)
}

fn write_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn record(name: &[u8], ip: &IpAddr, ttl: u32) -> Vec<u8> {
    let (kind, data) = match ip {
        IpAddr::V4(ip) => (A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AAAA, ip.octets().to_vec()),
    };
    let mut bytes = name.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
    bytes.extend(data);
    bytes
}

/// Settings under which everything happens within milliseconds.
fn quick(server: SocketAddr) -> Options {
    Options {
        servers: Some(vec![server]),
        hosts: None,
        table: Settings {
            ttl_min: Duration::from_millis(5),
            ttl_max: Duration::from_millis(20),
            backoff_base: Duration::from_millis(5),
            backoff_max: Duration::from_millis(10),
            grace: Duration::from_millis(30),
            addresses_max: 256,
        },
        timeout: Duration::from_millis(40),
        retries: 0,
        other_kind: Duration::from_millis(20),
        reaches: |_| true,
        ..Options::default()
    }
}

struct Watching {
    updates: mpsc::Receiver<Update>,
    handle: WatchHandle,
}

fn watch(options: Options, name: &str) -> Watching {
    let (send, updates) = mpsc::channel(1000);
    let resolver = Resolver::with(Handle::current(), options);
    let handle = resolver.watch(name, 8080, move |update| {
        send.try_send(update).expect("the test reads on");
    });
    Watching { updates, handle }
}

impl Watching {
    /// Waits for an update that `wanted` knows, and gives what it makes of it.
    async fn until<T>(&mut self, wanted: impl Fn(&Update) -> Option<T>) -> T {
        let search = async {
            loop {
                let update = self.updates.recv().await.expect("the watch goes on");
                if let Some(found) = wanted(&update) {
                    return found;
                }
            }
        };
        tokio::time::timeout(30 * SECOND, search).await.expect("the update comes")
    }

    async fn endpoints(&mut self) -> Vec<IpAddr> {
        self.until(|update| match update {
            Update::Endpoints(all) => {
                assert!(all.iter().all(|endpoint| endpoint.port() == 8080));
                Some(all.iter().map(SocketAddr::ip).collect())
            }
            _ => None,
        })
        .await
    }

    async fn failure(&mut self) -> Failure {
        self.until(|update| match update {
            Update::Failed(failure) => Some(*failure),
            _ => None,
        })
        .await
    }
}

#[tokio::test]
async fn a_and_aaaa_from_a_server() {
    let (server, address) = Server::start().await;
    server.say("shop.test.", A, Reply::Addresses(vec![v4(2), v4(1)], 60));
    server.say("shop.test.", AAAA, Reply::Addresses(vec![v6(1)], 60));
    let mut watching = watch(quick(address), "Shop.test");
    assert_eq!(watching.endpoints().await, [v4(1), v4(2), v6(1)]);
    watching.until(|update| (*update == Update::Confirmed).then_some(())).await;
}

#[tokio::test]
async fn endpoints_come_and_go_as_the_answer_changes() {
    let (server, address) = Server::start().await;
    server.say("shop.test.", A, Reply::Addresses(vec![v4(1), v4(2)], 0));
    server.say("shop.test.", AAAA, NO_DATA);
    let mut watching = watch(quick(address), "shop.test");
    assert_eq!(watching.endpoints().await, [v4(1), v4(2)]);
    server.say("shop.test.", A, Reply::Addresses(vec![v4(2), v4(3)], 0));
    assert_eq!(watching.endpoints().await, [v4(2), v4(3)]);
    server.say("shop.test.", A, Reply::Addresses(vec![v4(3)], 0));
    assert_eq!(watching.endpoints().await, [v4(3)]);
}

#[tokio::test]
async fn a_server_that_fails_changes_nothing() {
    let (server, address) = Server::start().await;
    server.say_both("shop.test.", NO_DATA);
    server.say("shop.test.", A, Reply::Addresses(vec![v4(1)], 1));
    let mut watching = watch(quick(address), "shop.test");
    watching.endpoints().await;
    for (reply, why) in [(SERVFAIL, Why::ServerFailed), (REFUSED, Why::Refused), (Reply::Silence, Why::TimedOut)] {
        server.say_both("shop.test.", reply);
        let is_it = |update: &Update| match update {
            Update::Failed(failure) if failure.why == why => Some(failure.kept),
            Update::Failed(_) | Update::Confirmed => None,
            other => panic!("{other:?} while {why:?}"),
        };
        assert_eq!(watching.until(is_it).await, 1, "{why:?}");
    }
    server.say("shop.test.", A, Reply::Addresses(vec![v4(2)], 1));
    assert_eq!(watching.endpoints().await, [v4(2)], "recovered");
}

#[tokio::test]
async fn a_name_that_never_resolved_says_why() {
    let (server, address) = Server::start().await;
    let mut watching = watch(quick(address), "shop.test");
    assert_eq!(watching.failure().await, Failure { why: Why::NotFound, kept: 0 });
    server.say_both("shop.test.", NO_DATA);
    assert_eq!(watching.failure().await, Failure { why: Why::NotFound, kept: 0 });
    server.say("shop.test.", A, Reply::Addresses(vec![v4(1)], 1));
    assert_eq!(watching.endpoints().await, [v4(1)]);
}

#[tokio::test]
async fn a_denied_name_is_gone_after_its_grace() {
    let (server, address) = Server::start().await;
    server.say("shop.test.", A, Reply::Addresses(vec![v4(1)], 1));
    server.say("shop.test.", AAAA, NO_DATA);
    let mut watching = watch(quick(address), "shop.test");
    watching.endpoints().await;
    server.say_both("shop.test.", NXDOMAIN);
    assert_eq!(watching.failure().await, Failure { why: Why::NotFound, kept: 1 });
    watching.until(|update| (*update == Update::Gone).then_some(())).await;
    assert_eq!(watching.failure().await, Failure { why: Why::NotFound, kept: 0 });
}

#[tokio::test]
async fn a_server_that_drops_aaaa_delays_nobody() {
    let (server, address) = Server::start().await;
    server.say("shop.test.", A, Reply::Addresses(vec![v4(1)], 1));
    server.say("shop.test.", AAAA, Reply::Silence);
    let patient = Options { timeout: 3600 * SECOND, ..quick(address) };
    let mut watching = watch(patient, "shop.test");
    assert_eq!(watching.endpoints().await, [v4(1)]);
}

#[tokio::test]
async fn a_long_answer_comes_over_tcp() {
    let (server, address) = Server::start().await;
    let many: Vec<IpAddr> = (1..=100).map(v4).collect();
    server.say("shop.test.", A, Reply::Truncated(many.clone(), 1));
    server.say("shop.test.", AAAA, NO_DATA);
    let mut watching = watch(Options { timeout: SECOND, ..quick(address) }, "shop.test");
    assert_eq!(watching.endpoints().await, many);
}

#[tokio::test]
async fn an_alias_is_followed() {
    let (server, address) = Server::start().await;
    server.say("shop.test.", A, Reply::Through("real.test.", vec![v4(1)], 1));
    server.say("shop.test.", AAAA, Reply::Through("real.test.", vec![], 1));
    server.say("real.test.", AAAA, NO_DATA);
    let mut watching = watch(quick(address), "shop.test");
    assert_eq!(watching.endpoints().await, [v4(1)]);
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_left_out() {
    let (server, address) = Server::start().await;
    let zero = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let group = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1));
    server.say("shop.test.", A, Reply::Addresses(vec![zero, group, v4(1)], 1));
    server.say("shop.test.", AAAA, NO_DATA);
    let mut watching = watch(quick(address), "shop.test");
    assert_eq!(watching.endpoints().await, [v4(1)]);
}

#[tokio::test]
async fn the_search_list_is_followed_to_the_first_that_answers() {
    let (server, address) = Server::start().await;
    server.say("shop.b.test.", A, Reply::Addresses(vec![v4(1)], 1));
    server.say("shop.b.test.", AAAA, NO_DATA);
    server.say_both("shop.", Reply::Addresses(vec![v4(9)], 1));
    let search = vec!["a.test".to_owned(), "b.test".to_owned()];
    let mut watching = watch(Options { search, ndots: 5, ..quick(address) }, "shop");
    assert_eq!(watching.endpoints().await, [v4(1)]);
    assert!(!server.asked().iter().any(|(name, _)| name == "shop."), "somebody else's name");
    // While the name that serves is in trouble, the one after it in the list must not take its traffic.
    server.say_both("shop.b.test.", SERVFAIL);
    assert_eq!(watching.failure().await, Failure { why: Why::ServerFailed, kept: 1 });
    assert!(!server.asked().iter().any(|(name, _)| name == "shop."), "somebody else's name");
}

#[tokio::test]
async fn a_failing_domain_of_the_search_list_is_passed_over() {
    let (server, address) = Server::start().await;
    server.say_both("shop.a.test.", SERVFAIL);
    server.say("shop.", A, Reply::Addresses(vec![v4(1)], 1));
    server.say("shop.", AAAA, NO_DATA);
    let search = vec!["a.test".to_owned()];
    let mut watching = watch(Options { search, ndots: 5, ..quick(address) }, "shop");
    assert_eq!(watching.endpoints().await, [v4(1)]);
}

#[tokio::test]
async fn the_hosts_file_goes_before_the_server() {
    let (server, address) = Server::start().await;
    server.say_both("db.", Reply::Addresses(vec![v4(9)], 1));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "10.0.0.1 db\n").expect("written");
    let hosts = Some(file.path().to_owned());
    let mut watching = watch(Options { hosts, ..quick(address) }, "db");
    assert_eq!(watching.endpoints().await, [v4(1)]);
    std::fs::write(file.path(), "10.0.0.2 db\n").expect("written");
    assert_eq!(watching.endpoints().await, [v4(2)], "read anew");
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn what_is_no_name_needs_no_server() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    for (name, address) in [
        ("10.0.0.1", v4(1)),
        ("fd00::1", v6(1)),
        ("[fd00::1]", v6(1)),
        ("localhost", IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ("LOCALHOST.", IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ("api.localhost", IpAddr::V4(Ipv4Addr::LOCALHOST)),
    ] {
        let mut watching = watch(quick(nobody), name);
        let told = watching.updates.try_recv().expect("told at once");
        assert_eq!(told, Update::Endpoints(vec![SocketAddr::new(address, 8080)]), "{name}");
        watching.handle.refresh();
    }
    for name in ["", ".", "a..b", &"x".repeat(64)] {
        let mut watching = watch(quick(nobody), name);
        let told = watching.updates.try_recv().expect("told at once");
        assert_eq!(told, Update::Failed(Failure { why: Why::NotAName, kept: 0 }), "{name}");
    }
}

#[tokio::test]
async fn a_static_list_is_told_once() {
    let resolver = Resolver::with(Handle::current(), quick(SocketAddr::from(([127, 0, 0, 1], 9))));
    let (send, mut updates) = mpsc::channel(10);
    let list = vec![SocketAddr::new(v4(2), 2), SocketAddr::new(v4(1), 1), SocketAddr::new(v4(2), 2)];
    let sorted = vec![list[1], list[0]];
    let handle = resolver.watch_source(&Source::Static(list), move |update| send.try_send(update).expect("room"));
    assert_eq!(updates.try_recv(), Ok(Update::Endpoints(sorted)));
    drop(handle);
    assert_eq!(updates.recv().await, None);
}

#[tokio::test]
async fn dropping_the_handle_ends_the_watch() {
    let (server, address) = Server::start().await;
    server.say_both("shop.test.", NO_DATA);
    server.say("shop.test.", A, Reply::Addresses(vec![v4(1)], 1));
    let mut watching = watch(quick(address), "shop.test");
    watching.endpoints().await;
    drop(watching.handle);
    while watching.updates.recv().await.is_some() {}
}

#[tokio::test]
async fn a_hurry_does_not_wait_for_the_ttl() {
    let (server, address) = Server::start().await;
    server.say("shop.test.", A, Reply::Addresses(vec![v4(1)], 3600));
    server.say("shop.test.", AAAA, NO_DATA);
    let mut options = quick(address);
    options.table.ttl_max = 3600 * SECOND;
    let mut watching = watch(options, "shop.test");
    assert_eq!(watching.endpoints().await, [v4(1)]);
    server.say("shop.test.", A, Reply::Addresses(vec![v4(2)], 3600));
    watching.handle.refresh();
    assert_eq!(watching.endpoints().await, [v4(2)]);
}

#[tokio::test]
async fn an_unreachable_server_is_a_failure() {
    let closed = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("bound")
    };
    let mut watching = watch(quick(closed), "shop.test");
    let failure = watching.failure().await;
    assert!(matches!(failure.why, Why::Unreachable | Why::TimedOut), "{failure:?}");
    assert_eq!(failure.kept, 0);
}

/// The resolver of the machine is not asked: only that one can be made, whatever `/etc/resolv.conf` holds.
#[tokio::test]
async fn a_resolver_of_the_system_can_be_made() {
    let resolver = Resolver::new(Handle::current(), None);
    let (send, mut updates) = mpsc::channel(1);
    let _handle = resolver.watch("[::1]", 80, move |update| send.try_send(update).expect("room"));
    assert!(matches!(updates.try_recv(), Ok(Update::Endpoints(_))));
}
