//! One test for each row of the table in `machine.rs`, the random walk, what each protocol's answers mean, and a checker
//! on sockets that listen when told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use tokio::runtime::Handle;

use super::Failure;
use super::Health;
use super::Plan;
use super::Settings;
use super::checker::AT_ONCE;
use super::config::Probe;
use super::config::Statuses;
use super::machine::Heard;
use super::machine::Machine;
use super::machine::SOON;
use super::machine::STRAY;
use super::machine::State;
use super::machine::Transition;
use super::machine::first_in;
use super::machine::next_in;
use super::metrics::Metrics;
use super::probe;
use crate::clock;
use crate::endpoint::Cluster;
use crate::kit::mode::Mode;
use crate::kit::walk;
use crate::telemetry::BuildInfo;
use crate::telemetry::Telemetry;

fn machine(state: State) -> Machine {
    Machine::new(&Settings::default(), state)
}

/// Records the results and gives the last transition; all before it must bring none about.
fn after(machine: &mut Machine, results: &[bool]) -> Option<Transition> {
    let (last, before) = results.split_last().expect("some results");
    for passed in before {
        assert_eq!(record(machine, *passed), None);
    }
    record(machine, *last)
}

fn record(machine: &mut Machine, passed: bool) -> Option<Transition> {
    machine.record(if passed { Heard::Pass } else { Heard::Fail })
}

const fn to(from: State, to: State, run: u32) -> Transition {
    Transition { from, to, run }
}

#[test]
fn unknown_pass_is_healthy_at_once() {
    let mut fresh = machine(State::Unknown);
    let expected = to(State::Unknown, State::Healthy, 1);
    assert_eq!(record(&mut fresh, true), Some(expected));
    let mut doubtful = machine(State::Unknown);
    assert_eq!(after(&mut doubtful, &[false, false]), None);
    assert_eq!(
        record(&mut doubtful, true).map(|t| t.to),
        Some(State::Healthy)
    );
}

#[test]
fn unknown_run_of_failures_is_unhealthy() {
    let mut fresh = machine(State::Unknown);
    assert_eq!(after(&mut fresh, &[false, false]), None);
    assert_eq!(fresh.state(), State::Unknown, "it goes on serving");
    let expected = to(State::Unknown, State::Unhealthy, 3);
    assert_eq!(record(&mut fresh, false), Some(expected));
}

#[test]
fn healthy_pass_ends_the_run() {
    let mut well = machine(State::Healthy);
    assert_eq!(
        after(&mut well, &[false, false, true, false, false, true]),
        None
    );
    assert_eq!(well.state(), State::Healthy);
}

#[test]
fn healthy_run_of_failures_is_unhealthy() {
    let mut well = machine(State::Healthy);
    let expected = to(State::Healthy, State::Unhealthy, 3);
    assert_eq!(after(&mut well, &[false, false, false]), Some(expected));
}

#[test]
fn unhealthy_run_of_passes_is_healthy() {
    let mut ill = machine(State::Unhealthy);
    assert_eq!(record(&mut ill, true), None, "one is luck");
    let expected = to(State::Unhealthy, State::Healthy, 2);
    assert_eq!(record(&mut ill, true), Some(expected));
}

#[test]
fn unhealthy_fail_ends_the_run() {
    let mut ill = machine(State::Unhealthy);
    assert_eq!(
        after(&mut ill, &[true, false, true, false, true, false]),
        None
    );
    assert_eq!(ill.state(), State::Unhealthy);
}

#[test]
fn any_unasked_stays_the_same() {
    let mut well = machine(State::Healthy);
    assert_eq!(after(&mut well, &[false, false]), None);
    for _ in 0..10 {
        assert_eq!(well.record(Heard::Unasked), None);
    }
    let expected = to(State::Healthy, State::Unhealthy, 3);
    assert_eq!(record(&mut well, false), Some(expected), "the run goes on");
    assert_eq!(after(&mut well, &[true]), None);
    assert_eq!(well.record(Heard::Unasked), None);
    assert!(record(&mut well, true).is_some());
}

#[test]
fn walk_changes_only_by_a_full_run() {
    walk::seeds(|draws| {
        let settings = Settings {
            healthy: 1 + draws.below(5) as u32,
            unhealthy: 1 + draws.below(5) as u32,
            ..Settings::default()
        };
        let start = draws.pick(&[State::Unknown, State::Healthy, State::Unhealthy]);
        let mut machine = Machine::new(&settings, start);
        let (mut run, mut last) = (0, None);
        for _ in 0..200 {
            let passed = draws.chance(0.6);
            run = if last == Some(passed) { run + 1 } else { 1 };
            last = Some(passed);
            let before = machine.state();
            let told = record(&mut machine, passed);
            machine.check_invariants();
            assert_eq!(told.is_some(), before != machine.state());
            let Some(told) = told else { continue };
            assert_eq!((told.from, told.to), (before, machine.state()));
            let needed = match (before, passed) {
                (State::Unknown, true) => 1,
                (_, true) => settings.healthy,
                (_, false) => settings.unhealthy,
            };
            assert!(told.run == needed && run >= needed, "{told:?} after {run}");
            let expected = [State::Unhealthy, State::Healthy][usize::from(passed)];
            assert_eq!(machine.state(), expected);
        }
    });
}

#[test]
fn periods_stray_and_the_first_is_soon() {
    let every = Duration::from_secs(60);
    walk::seeds(|draws| {
        let draw = draws.unit();
        for state in [State::Healthy, State::Unhealthy] {
            assert!(first_in(every, state, draw) < every);
            let next = next_in(every, (state, state), draw).as_secs_f64() / 60.0;
            assert!((1.0 - STRAY..=1.0 + STRAY).contains(&next), "{next}");
        }
        assert!(first_in(every, State::Unknown, draw) < SOON);
        assert!(next_in(every, (State::Unknown, State::Unknown), draw) < SOON * 2);
        let often = Duration::from_millis(100);
        assert!(next_in(often, (State::Unknown, State::Unknown), draw) < often * 2);
    });
    let spread = |draw| next_in(every, (State::Unknown, State::Healthy), draw);
    assert_eq!((spread(0.0), spread(0.5)), (Duration::ZERO, every / 2));
    let (low, high) = (
        next_in(every, (State::Healthy, State::Healthy), 0.0),
        next_in(every, (State::Healthy, State::Healthy), 1.0),
    );
    assert!(high - low > Duration::from_secs(17), "+-15% of a minute");
}

#[test]
fn statuses_are_one_or_a_class() {
    assert_eq!(Statuses::parse("204"), Some(Statuses(204, 204)));
    assert_eq!(Statuses::parse("2xx"), Some(Statuses(200, 299)));
    for bad in [
        "", "xx", "0xx", "6xx", "22xx", "99", "600", "+20", "2x", "2XX",
    ] {
        assert_eq!(Statuses::parse(bad), None, "{bad}");
    }
    assert!(Statuses(200, 299).has(299) && !Statuses(200, 299).has(300));
}

fn says(result: Result<(), Failure>) -> String {
    result.map_or_else(|failure| failure.to_string(), |()| "ok".to_owned())
}

#[test]
fn what_we_lack_ourselves_is_no_failure_of_the_endpoint() {
    let of = |number| probe::of_connect(&std::io::Error::from_raw_os_error(number));
    assert!(matches!(of(24), Failure::Unasked(_)), "EMFILE");
    assert!(matches!(of(23), Failure::Unasked(_)), "ENFILE");
    assert!(matches!(of(12), Failure::Unasked(_)), "ENOMEM");
    assert_eq!(probe::heard(&Err(of(24))), Heard::Unasked);
    assert_eq!(probe::heard(&Err(Failure::Timeout)), Heard::Fail);
    assert_eq!(probe::heard(&Ok(())), Heard::Pass);
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let refused = probe::of_connect(&refused);
    assert_eq!(refused, Failure::Connect("connect_refused"));
    let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
    assert_eq!(probe::of_connect(&late), Failure::Timeout);
}

#[test]
fn redis_lives_if_it_answers_or_asks_for_a_password() {
    for (bytes, verdict) in [
        ("", None),
        ("+", None),
        ("+PON", None),
        ("+PONG\r\n", Some("ok")),
        ("-NOAUTH Authentication required.\r\n", Some("ok")),
        ("-NOPERM no rights\r\n", Some("ok")),
        ("-LOADING Redis is loading", None),
        ("-LOADING is loading\r\n", Some("LOADING is loading")),
        ("-MASTERDOWN Link down\r\n", Some("MASTERDOWN Link down")),
        ("-NEWS\u{1b}[2J\r\n", Some("NEWS [2J")),
        ("+OK\r\n", Some("what it answers is not Redis")),
        ("HTTP/1.1 400", Some("what it answers is not Redis")),
    ] {
        let found = probe::redis_verdict(bytes.as_bytes()).map(says);
        assert_eq!(found.as_deref(), verdict, "{bytes:?}");
    }
}

/// An error of a server, as PostgreSQL writes it.
fn fatal(state: &str, message: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{state}\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).expect("short");
    [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()
}

#[test]
fn postgres_lives_if_it_takes_sessions_from_somebody() {
    let judge = |bytes: &[u8]| probe::postgres_verdict(bytes).map(says);
    let ok = Some("ok".to_owned());
    assert_eq!(judge(b"R\0\0\0\x08\0\0\0\x05"), ok);
    assert_eq!(judge(b"R\0\0"), None);
    assert_eq!(judge(&fatal("28P01", "password")), ok);
    assert_eq!(judge(&fatal("3D000", "no database")), ok);
    for (state, message) in [
        ("57P03", "the database system is starting up"),
        ("57P01", "terminating"),
        ("53300", "too many clients"),
        ("XX000", "lost its mind"),
    ] {
        let whole = fatal(state, message);
        assert_eq!(judge(&whole), Some(format!("{state} {message}")));
        assert_eq!(judge(&whole[..whole.len() - 1]), None, "not all of it yet");
    }
    let foreign = Some("what it answers is not PostgreSQL".to_owned());
    assert_eq!(judge(b"HTTP/1.1 400 Bad Request"), foreign);
    assert_eq!(judge(b"E\xff\xff\xff\xff"), foreign);
    assert_eq!(judge(b"E\0\0\0\0"), foreign);
    assert_eq!(judge(&fatal("", "")), ok, "no class of its own");
    assert_eq!(judge(b"E\0\0\0\x08abcd"), foreign);
}

#[test]
fn grpc_lives_if_it_serves() {
    let judge = |status, frame: &[u8]| says(probe::grpc_verdict(status, "why", frame));
    assert_eq!(judge(Some(0), &[0, 0, 0, 0, 2, 8, 1]), "ok");
    // An unknown field of each kind before and after the status.
    let padded = [
        &[0, 0, 0, 0, 26, 0x12, 1, 9, 0x19][..],
        &[0; 8],
        &[0x25, 0, 0, 0, 0, 0x30, 0xff, 1, 8, 1, 0x38, 1],
    ];
    let padded = padded.concat();
    let length = u8::try_from(padded.len() - 5).expect("short");
    let padded = [&[0, 0, 0, 0, length], &padded[5..]].concat();
    assert_eq!(judge(Some(0), &padded), "ok");
    assert_eq!(judge(Some(0), &[0, 0, 0, 0, 0]), "UNKNOWN");
    assert_eq!(judge(Some(0), &[0, 0, 0, 0, 2, 8, 2]), "NOT_SERVING");
    assert_eq!(judge(Some(0), &[0, 0, 0, 0, 2, 8, 3]), "SERVICE_UNKNOWN");
    assert_eq!(judge(Some(0), &[0, 0, 0, 0, 2, 8, 9]), "serving status 9");
    assert!(judge(Some(12), &[]).contains("no grpc.health.v1.Health"));
    assert!(judge(Some(5), &[]).contains("does not know the service"));
    assert_eq!(judge(Some(14), &[]), "grpc status 14 why");
    for bad in [
        &[][..],
        &[0, 0, 0],
        &[1, 0, 0, 0, 2, 8, 1],
        &[0, 0, 0, 0, 9, 8, 1],
        &[0, 0, 0, 0, 1, 8],
        &[0, 0, 0, 0, 2, 0x0b, 1],
        &[0, 0, 0, 0, 3, 0x12, 0xff, 1],
    ] {
        assert_eq!(
            judge(Some(0), bad),
            "what it answers is not gRPC",
            "{bad:?}"
        );
    }
    assert_eq!(judge(None, &[]), "what it answers is not gRPC");
}

/// An address that refuses until it is told to listen.
struct Door(Socket, SocketAddr);

impl Door {
    fn shut() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("a free port");
        let address = socket.local_addr().expect("bound").as_socket();
        Self(socket, address.expect("of an internet"))
    }

    fn open(&self) {
        self.0.listen(16).expect("listening");
    }
}

struct Bench {
    telemetry: Arc<Telemetry>,
    cluster: Arc<Cluster>,
}

impl Bench {
    fn new(doors: &[&Door]) -> Self {
        let build = BuildInfo {
            version: "",
            commit: "",
        };
        let addresses: Vec<_> = doors.iter().map(|door| door.1).collect();
        Self {
            telemetry: Telemetry::new(build, 1),
            cluster: Cluster::fixed(&addresses, clock::now()),
        }
    }

    fn start(&self, settings: &Settings, before: Option<&Health>) -> Arc<Health> {
        let plan = Plan {
            name: "shop".into(),
            host: "shop".into(),
            settings: settings.clone(),
            cluster: Arc::clone(&self.cluster),
            metrics: Metrics::new(&self.telemetry, "shop"),
        };
        Health::start(plan, before, &Handle::current())
    }

    fn serves(&self, place: usize) -> bool {
        self.cluster.set().endpoints[place].serves(clock::now())
    }

    fn state(&self, health: &Health, place: usize) -> State {
        let id = self.cluster.set().endpoints[place].id;
        health.told(id).map_or(State::Unknown, |told| told.state)
    }

    fn has(&self, sample: &str) -> bool {
        self.telemetry.encode().lines().any(|line| line == sample)
    }

    fn unhealthy(&self, count: usize) -> bool {
        self.has(&format!(
            "outrider_endpoints_unhealthy{{upstream=\"shop\"}} {count}"
        ))
    }
}

async fn until(what: &str, mut good: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if good() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never came: {what}");
}

fn often(probe: Probe) -> Settings {
    Settings {
        probe,
        every: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
        ..Settings::default()
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_out_and_comes_back() {
    let (well, ill) = (Door::shut(), Door::shut());
    well.open();
    let bench = Bench::new(&[&well, &ill]);
    let health = bench.start(&often(Probe::Tcp), None);
    assert!(bench.serves(1), "until its probes say otherwise");
    until("it is out", || !bench.serves(1)).await;
    assert!(bench.unhealthy(1));
    let id = bench.cluster.set().endpoints[1].id;
    let told = health.told(id).expect("it is probed");
    let refused = Failure::Connect("connect_refused");
    assert_eq!(told.failed.map(|(failure, _)| failure), Some(refused));
    assert!(told.changed.is_some() && told.probed.is_some());
    let ejected_until = clock::now() + Duration::from_secs(100);
    bench.cluster.set().endpoints[1].rest(ejected_until);
    ill.open();
    until("it is back", || bench.serves(1)).await;
    assert!(bench.unhealthy(0));
    assert!(bench.cluster.set().endpoints[1].back_since().is_some());
    until("the other has a verdict", || {
        bench.state(&health, 0) == State::Healthy
    })
    .await;
    assert!(bench.serves(0));
}

#[tokio::test]
async fn shadow_leaves_it_in() {
    let ill = Door::shut();
    let bench = Bench::new(&[&ill]);
    let settings = Settings {
        mode: Mode::Shadow,
        ..often(Probe::Tcp)
    };
    let health = bench.start(&settings, None);
    until("it is counted", || bench.unhealthy(1)).await;
    assert_eq!(bench.state(&health, 0), State::Unhealthy);
    assert!(bench.serves(0));
}

#[tokio::test]
async fn what_was_found_goes_with_the_checker() {
    let ill = Door::shut();
    let bench = Bench::new(&[&ill]);
    let health = bench.start(&often(Probe::Tcp), None);
    until("it is out", || !bench.serves(0)).await;
    drop(health);
    assert!(bench.serves(0) && bench.unhealthy(0));
}

#[tokio::test]
async fn endpoints_come_and_go() {
    let (first, second) = (Door::shut(), Door::shut());
    let bench = Bench::new(&[&first]);
    let health = bench.start(&often(Probe::Tcp), None);
    until("it is out", || !bench.serves(0)).await;
    let gone = Arc::clone(&bench.cluster.set().endpoints[0]);
    second.open();
    bench.cluster.update(&[second.1], clock::now());
    until("the new one is known", || {
        bench.state(&health, 0) == State::Healthy
    })
    .await;
    assert!(bench.unhealthy(0) && health.told(gone.id).is_none());
    assert!(!gone.is_unhealthy());
}

#[tokio::test]
async fn a_reload_keeps_what_was_found_if_the_question_is_the_same() {
    let ill = Door::shut();
    let bench = Bench::new(&[&ill]);
    let before = bench.start(&often(Probe::Tcp), None);
    until("it is out", || !bench.serves(0)).await;
    let seldom = Settings {
        every: Duration::from_secs(3600),
        ..often(Probe::Tcp)
    };
    let after = bench.start(&seldom, Some(&before));
    before.stop();
    assert!(!bench.serves(0) && bench.unhealthy(1));
    assert_eq!(bench.state(&after, 0), State::Unhealthy);
    let other = Settings {
        probe: Probe::Redis,
        ..seldom
    };
    let last = bench.start(&other, Some(&after));
    after.stop();
    assert!(bench.serves(0) && bench.unhealthy(0));
    assert_eq!(bench.state(&last, 0), State::Unknown);
}

/// Endpoints that accept and say nothing, all of one listener.
#[tokio::test]
async fn no_more_than_the_bound_are_asked_at_once() {
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", 0)).await;
    let listener = listener.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let addresses: Vec<_> = (1..=50)
        .map(|last| SocketAddr::from(([127, 0, 7, last], port)))
        .collect();
    let bench = Bench::new(&[]);
    bench.cluster.update(&addresses, clock::now());
    let settings = Settings {
        timeout: Duration::from_secs(60),
        ..often(Probe::Redis)
    };
    let _health = bench.start(&settings, None);
    let mut held = Vec::new();
    let take = async || listener.accept().await.expect("a probe").0;
    for _ in 0..AT_ONCE {
        held.push(take().await);
    }
    // One more comes for each that ends, and none before.
    for _ in 0..10 {
        let early = tokio::time::timeout(Duration::from_millis(5), take()).await;
        assert!(early.is_err(), "more than {AT_ONCE} at once");
        held.remove(0);
        held.push(take().await);
    }
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_times_out() {
    let silent = Door::shut();
    silent.open();
    let bench = Bench::new(&[&silent]);
    for probe in [
        Probe::default(),
        Probe::Grpc {
            service: String::new(),
        },
        Probe::Redis,
        Probe::Postgres,
    ] {
        let settings = Settings {
            timeout: Duration::from_millis(20),
            ..often(probe)
        };
        let health = bench.start(&settings, None);
        until("it is out", || !bench.serves(0)).await;
        let id = bench.cluster.set().endpoints[0].id;
        let failed = health.told(id).and_then(|told| told.failed);
        assert_eq!(failed.map(|(failure, _)| failure), Some(Failure::Timeout));
    }
}
