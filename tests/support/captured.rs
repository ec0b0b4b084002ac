//! A network namespace of a test's own, in which a firewall rule redirects what goes to two addresses to a proxy. The test
//! runs itself again inside, so that servers, proxy and client all live there.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::Stdio;

use super::proxy::BINARY;
use super::proxy::Proxy;
use super::setup::Setup;

/// Set in the run inside the namespace.
const INSIDE: &str = "OUTRIDER_TEST_INSIDE";
/// The user that the rules let through: our own dials must not come back to us.
const UID: u32 = 4750;
pub const V4: &str = "10.77.0.2";
pub const V6: &str = "fd77::2";

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

/// Runs `test`, by its whole name, again inside a namespace; true in that second run, where the test then does its work.
pub fn entered(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        prepare();
        return true;
    }
    demand_tools();
    let namespace = Namespace(format!(
        "outrider-test-{}-{}",
        std::process::id(),
        test.len()
    ));
    run("ip", &["netns", "add", &namespace.0]);
    let own = std::env::current_exe().expect("the path of this test");
    let own = own.to_str().expect("a UTF-8 path");
    let args = [
        "netns",
        "exec",
        &namespace.0,
        own,
        test,
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
    false
}

fn prepare() {
    let v4 = format!("{V4}/32");
    let v6 = format!("{V6}/128");
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["addr", "add", &v4, "dev", "lo"]);
    run("ip", &["-6", "addr", "add", &v6, "dev", "lo", "nodad"]);
}

pub fn addr(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

/// Everything to our two addresses goes to the outbound port, but for what the proxy itself sends.
pub fn redirect_to(outbound: u16) {
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

/// Starts a proxy as the user whom the rules let through; the directory holds its binary.
pub async fn start(setup: Setup) -> (Proxy, tempfile::TempDir) {
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
