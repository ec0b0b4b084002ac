//! Real servers where a user has them: Redis and PostgreSQL, each on a free port, ended by process id.

use std::ffi::OsStr;
use std::fs::File;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

use super::pki::Laid;
use super::ports;

/// Debian's `nobody` and `nogroup`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// A server process with a directory of its own.
pub struct Server {
    pub addr: SocketAddr,
    child: Option<Child>,
    command: Vec<String>,
    dir: TempDir,
    /// The signal that ends it at once and in order.
    end: &'static str,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    /// A Redis with these further arguments, nothing kept on disk.
    pub fn redis(more: &[&str]) -> Self {
        let port = ports::free().to_string();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().display().to_string();
        let fixed = ["redis-server", "--port", &port, "--bind", "127.0.0.1"];
        let kept = ["--save", "", "--appendonly", "no", "--dir", &path];
        let command = fixed.iter().chain(&kept).chain(more);
        Self::begin(
            &port,
            command.map(ToString::to_string).collect(),
            dir,
            "TERM",
        )
    }

    /// A PostgreSQL with a fresh cluster. `standby`: one that takes no sessions, for it waits for another to follow.
    pub fn postgres(standby: bool) -> Self {
        let port = ports::free().to_string();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let is_root = is_root(dir.path());
        if is_root {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        let data = dir.path().join("data").display().to_string();
        let program = |name: &str| postgres_bin().join(name).display().to_string();
        let initdb = program("initdb");
        let init = ["-D", &data, "-A", "scram-sha-256", "-U", "owner", "-N"];
        let password = dir.path().join("password");
        std::fs::write(&password, "secret\n").expect("a file of our own");
        let password = format!("--pwfile={}", password.display());
        let init = as_nobody(is_root, [initdb.as_str()].iter().chain(&init).copied())
            .into_iter()
            .chain([password])
            .collect::<Vec<_>>();
        let made = spawn(&init, dir.path()).wait().expect("initdb ends");
        assert!(made.success(), "{init:?}");
        if standby {
            let signal = Path::new(&data).join("standby.signal");
            std::fs::write(&signal, "").expect("a file of its own");
        }
        let postgres = program("postgres");
        let run = [
            postgres.as_str(),
            "-D",
            &data,
            "-p",
            &port,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
            "-c",
            "hot_standby=off",
        ];
        let command = as_nobody(is_root, run.into_iter());
        Self::begin(&port, command, dir, "QUIT")
    }

    /// OpenSSL's own server, which answers with a page about the handshake.
    pub fn openssl(laid: &Laid, more: &[&str]) -> Self {
        let port = ports::free().to_string();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let accept = format!("127.0.0.1:{port}");
        let path = |path: &Path| path.display().to_string();
        let (cert, key, ca) = (path(&laid.cert), path(&laid.key), path(&laid.ca));
        let fixed = ["openssl", "s_server", "-accept", &accept, "-www"];
        let files = ["-cert", &cert, "-key", &key, "-CAfile", &ca];
        let command = fixed.iter().chain(&files).chain(more);
        Self::begin(
            &port,
            command.map(ToString::to_string).collect(),
            dir,
            "TERM",
        )
    }

    /// nginx that wants a certificate of its clients, and says what it made of it.
    pub fn nginx(laid: &Laid) -> Self {
        let port = ports::free().to_string();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = dir.path().display();
        let (cert, key, ca) = (laid.cert.display(), laid.key.display(), laid.ca.display());
        let conf = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error;
events {{}}
http {{
  access_log off;
  client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {cert}; ssl_certificate_key {key};
    ssl_client_certificate {ca}; ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{ return 200 \"$ssl_client_verify $ssl_protocol\\n\"; }}
  }}
}}
"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, conf).expect("a file of our own");
        let (file, at) = (file.display().to_string(), at.to_string());
        let command = ["nginx", "-p", &at, "-c", &file].map(ToOwned::to_owned);
        Self::begin(&port, command.to_vec(), dir, "QUIT")
    }

    fn begin(port: &str, command: Vec<String>, dir: TempDir, end: &'static str) -> Self {
        let port: u16 = port.parse().expect("a port");
        Server {
            addr: (Ipv4Addr::LOCALHOST, port).into(),
            child: Some(spawn(&command, dir.path())),
            command,
            dir,
            end,
        }
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("it has begun")
    }

    /// Where a PostgreSQL keeps its data.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Whether it was started and not ended since.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Ends it at once and in the middle of whatever it does, and waits until it has ended.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal by number of process.
    pub fn signal(&self, name: &str) {
        let Some(child) = &self.child else { return };
        let script = format!("kill -s {name} {}", child.id());
        let _ = Command::new("sh").args(["-c", &script]).status();
    }

    /// Ends it and waits until it has ended.
    pub fn stop(&mut self) {
        // What was stopped takes no other signal.
        self.signal("CONT");
        self.signal(self.end);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// The same again, on the same port.
    pub fn start(&mut self) {
        self.child = Some(spawn(&self.command, self.dir.path()));
    }
}

fn spawn<S: AsRef<OsStr>>(command: &[S], dir: &Path) -> Child {
    let (program, arguments) = command.split_first().expect("a program");
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"));
    let log = log.expect("a file of our own");
    let copy = log.try_clone().expect("a second handle");
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(copy)
        .stderr(log)
        .spawn();
    started.unwrap_or_else(|error| {
        panic!(
            "{}: {error}; tests/run installs what is missing",
            program.as_ref().display()
        )
    })
}

fn is_root(dir: &Path) -> bool {
    dir.metadata().expect("it is there").uid() == 0
}

fn as_nobody<'a>(is_root: bool, command: impl Iterator<Item = &'a str>) -> Vec<String> {
    let drop = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let before = drop.iter().filter(|_| is_root).map(ToString::to_string);
    before.chain(command.map(ToOwned::to_owned)).collect()
}

/// Debian keeps the programs of each version apart from the others.
fn postgres_bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let bins = versions.flatten().map(|entry| entry.path().join("bin"));
    bins.filter(|bin| bin.join("initdb").exists())
        .max()
        .expect("PostgreSQL is there; tests/run installs it")
}
