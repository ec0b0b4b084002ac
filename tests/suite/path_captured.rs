//! Connections that a firewall rule redirects to us, in a network namespace that the test makes: the original
//! destination is read back from the kernel and dialled.
//!
//! The test runs itself again inside the namespace, so that origin, proxy and client all live there.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::Stdio;

use crate::path_forward::PLAIN;
use crate::path_tunnel::client_hello;
use crate::support::call::Call;
use crate::support::client::End;
use crate::support::client::Raw;
use crate::support::names::log;
use crate::support::origin::Act;
use crate::support::origin::Answer;
use crate::support::origin::Origin;
use crate::support::ports;
use crate::support::proxy::BINARY;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::tcp::Manner;
use crate::support::tcp::Tcp;

/// Set in the run inside the namespace.
const INSIDE: &str = "OUTRIDER_TEST_INSIDE";
const TEST: &str = "path_captured::redirected_connections_go_where_they_were_meant_to";
/// The user that the rules let through: our own dials must not come back to us.
const UID: u32 = 4750;
const V4: &str = "10.77.0.2";
const V6: &str = "fd77::2";

struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {}: {status}", args.join(" "));
}

/// Says what is missing; nothing is skipped.
fn demand_tools() {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    assert_eq!(
        uid,
        Some("0"),
        "this test makes a network namespace and needs root: run `tests/run` as root or in a container"
    );
    for (tool, flag, package) in [("ip", "-V", "iproute2"), ("nft", "--version", "nftables")] {
        let found = Command::new(tool)
            .arg(flag)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(
            found.is_ok_and(|status| status.success()),
            "`{tool}` is missing: apt-get install {package}, as `tests/run` does"
        );
    }
}

#[tokio::test]
async fn redirected_connections_go_where_they_were_meant_to() {
    if std::env::var_os(INSIDE).is_some() {
        return inside().await;
    }
    demand_tools();
    let namespace = Namespace(format!("outrider-test-{}", std::process::id()));
    run("ip", &["netns", "add", &namespace.0]);
    let own = std::env::current_exe().expect("the path of this test");
    let own = own.to_str().expect("a UTF-8 path");
    let args = [
        "netns",
        "exec",
        &namespace.0,
        own,
        TEST,
        "--exact",
        "--nocapture",
    ];
    let output = Command::new("ip")
        .args(args)
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("ip netns exec");
    let text = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "inside the namespace:\n{text}"
    );
}

fn addr(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

/// Everything to our two addresses goes to the outbound port, but for what the proxy itself sends.
fn redirect_to(outbound: u16) {
    let rules = format!(
        "table inet outrider {{\n  chain output {{\n    type nat hook output priority -105; policy accept;\n    \
         meta skuid {UID} counter return\n    ip daddr {V4} tcp flags & (fin|syn|rst|ack) == syn counter redirect to :{outbound}\n    \
         ip6 daddr {V6} tcp flags & (fin|syn|rst|ack) == syn counter redirect to :{outbound}\n  }}\n}}\n"
    );
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("rules.nft");
    std::fs::write(&file, rules).expect("write the rules");
    run("nft", &["-f", file.to_str().expect("a UTF-8 path")]);
}

async fn start(setup: Setup) -> (Proxy, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open.clone()).expect("let the proxy's user in");
    // The build directory may be closed to other users, so the proxy runs from a copy.
    let binary = dir.path().join("outrider");
    std::fs::copy(BINARY, &binary).expect("copy the binary");
    std::fs::set_permissions(&binary, open).expect("let the proxy's user run it");
    let mut proxy = Proxy::spawn(setup, &binary, |command| {
        command.uid(UID).gid(UID);
    });
    proxy.wait_ready().await;
    (proxy, dir)
}

async fn inside() {
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["addr", "add", &format!("{V4}/32"), "dev", "lo"]);
    run(
        "ip",
        &[
            "-6",
            "addr",
            "add",
            &format!("{V6}/128"),
            "dev",
            "lo",
            "nodad",
        ],
    );
    let port = ports::free();
    let answer = |text: &'static str| {
        move |_: &crate::support::origin::Asked<'_>| Act::Answer(Answer::ok(text))
    };
    let four = Origin::at(addr(V4, port), answer("four")).await;
    let six = Origin::at(addr(V6, port), answer("six")).await;
    let listed = Origin::always(Answer::ok("listed")).await;
    let setup = Setup::new()
        .block(&format!(
            "upstream: dialled.test\nendpoints: original\n{PLAIN}"
        ))
        .upstream("listed.test", &[listed.addr], PLAIN)
        .limits("detect: 50ms");
    redirect_to(setup.outbound);
    let (proxy, _binary) = start(setup).await;

    http_is_routed(&proxy, &four, &six, &listed).await;
    bytes_are_tunnelled(&proxy).await;
    nowhere_is_told(&proxy).await;
    what_was_not_redirected_is_not_dialled(&proxy).await;
}

async fn http_is_routed(proxy: &Proxy, four: &Origin, six: &Origin, listed: &Origin) {
    let dialled = Call::get("/dialled")
        .host("dialled.test")
        .field("retry-attempt", "1");
    assert_eq!(dialled.to(four.addr).await.is(200).text(), "four");
    // Under a path of its own: another worker may carry it, and whose line is written first is chance.
    let other = Call::get("/dialled/six").host("dialled.test");
    assert_eq!(other.to(six.addr).await.is(200).text(), "six");
    let head = four.only().head;
    assert!(head.has("via"), "it came through us");
    assert!(
        head.has("retry-attempt"),
        "the application is trusted although it comes from the pod's address"
    );
    // A policy may send it elsewhere by its Host.
    assert_eq!(
        Call::get("/listed")
            .host("listed.test")
            .to(four.addr)
            .await
            .is(200)
            .text(),
        "listed"
    );
    assert_eq!((four.requests(), listed.requests()), (1, 1));
    // Host may be anything when no policy names it: the app's own choice of address stands.
    assert_eq!(
        Call::get("/unmatched")
            .host("unmatched.test")
            .to(four.addr)
            .await
            .is(200)
            .text(),
        "four"
    );
    let line = proxy.logged_path("/dialled").await;
    assert_eq!(
        line[log::ENDPOINT].as_str(),
        Some(four.addr.to_string().as_str())
    );
}

async fn bytes_are_tunnelled(proxy: &Proxy) {
    let banner = Tcp::at(
        addr(V4, ports::free()),
        Manner::Banner(b"220 hello\r\n".to_vec()),
    )
    .await;
    let mut raw = Raw::connect(banner.addr).await;
    raw.expect(b"220 hello\r\n").await;
    raw.send(b"EHLO\r\n").await;
    raw.expect(b"EHLO\r\n").await;
    let echo = Tcp::at(addr(V6, ports::free()), Manner::Echo).await;
    let hello = client_hello("captured.test");
    let mut raw = Raw::connect(echo.addr).await;
    raw.send(&hello).await;
    raw.expect(&hello).await;
    raw.finish().await;
    assert_eq!(raw.end().await.0, End::Closed);
    proxy
        .logged("the tunnel's line", |line| {
            line[log::SNI] == "captured.test"
        })
        .await;
}

async fn nowhere_is_told(proxy: &Proxy) {
    let nowhere = addr(V4, ports::free());
    Call::get("/nowhere")
        .host("dialled.test")
        .to(nowhere)
        .await
        .is_own(502, &["connect_refused"]);
    // Opaque bytes cannot be answered; the connection ends.
    let mut raw = Raw::connect(nowhere).await;
    raw.offer(b"\0\0opaque").await;
    assert!(raw.end().await.1.is_empty());
    drop(proxy.metrics().await);
}

async fn what_was_not_redirected_is_not_dialled(proxy: &Proxy) {
    // The kernel gives our own address as the original destination, or none: dialling it would never end.
    for bytes in [&b"\0\0opaque"[..], &client_hello("direct.test")] {
        let mut raw = Raw::connect(proxy.outbound).await;
        raw.offer(bytes).await;
        let rest = raw.end().await.1;
        assert!(
            rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"),
            "{:?}",
            String::from_utf8_lossy(&rest)
        );
    }
    let host = proxy.outbound.to_string();
    proxy
        .call(&Call::get("/loop").host(&host))
        .await
        .is_own(508, &["loop_detected"]);
}
