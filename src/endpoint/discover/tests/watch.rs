//! Watches against a name server of our own, under settings that let everything happen within milliseconds.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::SECOND;
use super::server::A;
use super::server::AAAA;
use super::server::NO_DATA;
use super::server::NXDOMAIN;
use super::server::REFUSED;
use super::server::Reply;
use super::server::SERVFAIL;
use super::server::Server;
use super::v4;
use super::v6;
use crate::endpoint::discover::Failure;
use crate::endpoint::discover::Options;
use crate::endpoint::discover::Resolver;
use crate::endpoint::discover::Update;
use crate::endpoint::discover::WatchHandle;
use crate::endpoint::discover::Why;
use crate::endpoint::discover::machine::Settings;

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
        tokio::time::timeout(30 * SECOND, search)
            .await
            .expect("the update comes")
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
    watching
        .until(|update| (*update == Update::Confirmed).then_some(()))
        .await;
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
    for (reply, why) in [
        (SERVFAIL, Why::ServerFailed),
        (REFUSED, Why::Refused),
        (Reply::Silence, Why::TimedOut),
    ] {
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
    assert_eq!(
        watching.failure().await,
        Failure {
            why: Why::NotFound,
            kept: 0
        }
    );
    server.say_both("shop.test.", NO_DATA);
    assert_eq!(
        watching.failure().await,
        Failure {
            why: Why::NotFound,
            kept: 0
        }
    );
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
    assert_eq!(
        watching.failure().await,
        Failure {
            why: Why::NotFound,
            kept: 1
        }
    );
    watching
        .until(|update| (*update == Update::Gone).then_some(()))
        .await;
    assert_eq!(
        watching.failure().await,
        Failure {
            why: Why::NotFound,
            kept: 0
        }
    );
}

#[tokio::test]
async fn a_server_that_drops_aaaa_delays_nobody() {
    let (server, address) = Server::start().await;
    server.say("shop.test.", A, Reply::Addresses(vec![v4(1)], 1));
    server.say("shop.test.", AAAA, Reply::Silence);
    let patient = Options {
        timeout: 3600 * SECOND,
        ..quick(address)
    };
    let mut watching = watch(patient, "shop.test");
    assert_eq!(watching.endpoints().await, [v4(1)]);
}

#[tokio::test]
async fn a_long_answer_comes_over_tcp() {
    let (server, address) = Server::start().await;
    let many: Vec<IpAddr> = (1..=100).map(v4).collect();
    server.say("shop.test.", A, Reply::Truncated(many.clone(), 1));
    server.say("shop.test.", AAAA, NO_DATA);
    let mut watching = watch(
        Options {
            timeout: SECOND,
            ..quick(address)
        },
        "shop.test",
    );
    assert_eq!(watching.endpoints().await, many);
}

#[tokio::test]
async fn an_alias_is_followed() {
    let (server, address) = Server::start().await;
    server.say(
        "shop.test.",
        A,
        Reply::Through("real.test.", vec![v4(1)], 1),
    );
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
    server.say(
        "shop.test.",
        A,
        Reply::Addresses(vec![zero, group, v4(1)], 1),
    );
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
    let mut watching = watch(
        Options {
            search,
            ndots: 5,
            ..quick(address)
        },
        "shop",
    );
    assert_eq!(watching.endpoints().await, [v4(1)]);
    assert!(
        !server.asked().iter().any(|(name, _)| name == "shop."),
        "somebody else's name"
    );
    // While the name that serves is in trouble, the one after it in the list must not take its traffic.
    server.say_both("shop.b.test.", SERVFAIL);
    assert_eq!(
        watching.failure().await,
        Failure {
            why: Why::ServerFailed,
            kept: 1
        }
    );
    assert!(
        !server.asked().iter().any(|(name, _)| name == "shop."),
        "somebody else's name"
    );
}

#[tokio::test]
async fn a_failing_domain_of_the_search_list_is_passed_over() {
    let (server, address) = Server::start().await;
    server.say_both("shop.a.test.", SERVFAIL);
    server.say("shop.", A, Reply::Addresses(vec![v4(1)], 1));
    server.say("shop.", AAAA, NO_DATA);
    let search = vec!["a.test".to_owned()];
    let mut watching = watch(
        Options {
            search,
            ndots: 5,
            ..quick(address)
        },
        "shop",
    );
    assert_eq!(watching.endpoints().await, [v4(1)]);
}

#[tokio::test]
async fn the_hosts_file_goes_before_the_server() {
    let (server, address) = Server::start().await;
    server.say_both("db.", Reply::Addresses(vec![v4(9)], 1));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "10.0.0.1 db\n").expect("written");
    let hosts = Some(file.path().to_owned());
    let mut watching = watch(
        Options {
            hosts,
            ..quick(address)
        },
        "db",
    );
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
        assert_eq!(
            told,
            Update::Endpoints(vec![SocketAddr::new(address, 8080)]),
            "{name}"
        );
        watching.handle.refresh();
    }
    for name in ["", ".", "a..b", &"x".repeat(64)] {
        let mut watching = watch(quick(nobody), name);
        let told = watching.updates.try_recv().expect("told at once");
        assert_eq!(
            told,
            Update::Failed(Failure {
                why: Why::NotAName,
                kept: 0
            }),
            "{name}"
        );
    }
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
    assert!(
        matches!(failure.why, Why::Unreachable | Why::TimedOut),
        "{failure:?}"
    );
    assert_eq!(failure.kept, 0);
}

/// The resolver of the machine is not asked: only that one can be made, whatever `/etc/resolv.conf` holds.
#[tokio::test]
async fn a_resolver_of_the_system_can_be_made() {
    let resolver = Resolver::new(Handle::current(), None);
    let (send, mut updates) = mpsc::channel(1);
    let _handle = resolver.watch("[::1]", 80, move |update| {
        send.try_send(update).expect("room");
    });
    assert!(matches!(updates.try_recv(), Ok(Update::Endpoints(_))));
}
