//! A proxy process: started on free ports, watched through its outputs, ended by its id.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use super::call::Call;
use super::call::Reply;
use super::client::Raw;
use super::metrics::Metrics;
use super::names;
use super::setup::Setup;
use super::setup::write;
use super::until;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_outrider");

/// A running proxy; dropping it kills the process.
pub struct Proxy {
    child: Child,
    pub setup: Setup,
    pub outbound: SocketAddr,
    pub explicit: SocketAddr,
    pub admin: SocketAddr,
    pub inbound: SocketAddr,
    pub policy: PathBuf,
    /// Holds the policy; removed with the proxy.
    _dir: TempDir,
    stdout: Lines,
    stderr: Lines,
}

/// The lines of an output so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// A thread reads the pipe to its end, so that the process never blocks on it.
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Lines::default();
        let into = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                into.0
                    .lock()
                    .push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        lines
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let (out, err) = (self.stdout.all(), self.stderr.all());
            let tail = |lines: Vec<String>| lines[lines.len().saturating_sub(20)..].join("\n");
            eprintln!(
                "--- policy\n{}--- stdout\n{}\n--- stderr\n{}",
                self.setup.text(),
                tail(out),
                tail(err)
            );
        }
    }
}

impl Proxy {
    /// Starts the binary and waits until it is ready.
    ///
    /// # Panics
    /// When it exits or does not get ready.
    pub async fn start(setup: Setup) -> Self {
        let mut proxy = Self::spawn(setup, BINARY.as_ref(), |_| {});
        proxy.wait_ready().await;
        proxy
    }

    /// Starts a binary without waiting; `shape` may change the command, as to another user.
    pub fn spawn(setup: Setup, binary: &Path, shape: impl FnOnce(&mut Command)) -> Self {
        // Open to others, because the proxy may run as another user.
        let open = std::fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new()
            .permissions(open)
            .tempdir()
            .expect("a temporary directory");
        let (policy, source) = place(&setup, dir.path());
        let mut command = Command::new(binary);
        command
            .arg("run")
            .arg(&source)
            .args(&setup.args)
            .stdin(Stdio::null());
        command
            .env_remove("OTEL_SERVICE_NAME")
            .env_remove("OUTRIDER_ZONE")
            .env_remove("OUTRIDER_WORKERS");
        shape(&mut command);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start outrider");
        let stdout = Lines::of(child.stdout.take().expect("piped"));
        let stderr = Lines::of(child.stderr.take().expect("piped"));
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (outbound, explicit, admin) = (at(setup.outbound), at(setup.explicit), at(setup.admin));
        let inbound = at(setup.inbound);
        Proxy {
            child,
            setup,
            outbound,
            explicit,
            admin,
            inbound,
            policy,
            _dir: dir,
            stdout,
            stderr,
        }
    }

    /// # Panics
    /// When the process exits before it is ready, or never is.
    pub async fn wait_ready(&mut self) {
        let admin = self.admin;
        let child = std::cell::RefCell::new(&mut self.child);
        let stderr = self.stderr.clone();
        until("/ready answers 200", || async {
            if let Ok(Some(status)) = child.borrow_mut().try_wait() {
                panic!(
                    "outrider ended with {status} before it was ready:\n{}",
                    stderr.all().join("\n")
                );
            }
            let mut raw = Raw::try_connect(admin).await.ok()?;
            raw.offer(b"GET /ready HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
                .await;
            raw.try_reply("GET")
                .await
                .ok()?
                .filter(|reply| reply.status == 200)
        })
        .await;
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by number of process, as `HUP` or `TERM`.
    pub fn signal(&self, name: &str) {
        let script = format!("kill -s {name} {}", self.pid());
        let status = Command::new("sh")
            .args(["-c", &script])
            .status()
            .expect("a shell");
        assert!(status.success(), "{script}");
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = std::cell::RefCell::new(&mut self.child);
        until("the process ends", || async {
            child.borrow_mut().try_wait().expect("our own child")
        })
        .await
    }

    /// A request on a connection of its own to the outbound port.
    pub async fn call(&self, call: &Call) -> Reply {
        call.to(self.outbound).await
    }

    /// The same request several times at once, each on a connection of its own.
    pub async fn at_once(&self, count: usize, call: &Call) -> Vec<Reply> {
        futures_util::future::join_all((0..count).map(|_| self.call(call))).await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.call(&Call::get(target)).await
    }

    pub async fn connect(&self) -> Raw {
        Raw::connect(self.outbound).await
    }

    /// A page of the admin side.
    pub async fn page(&self, path: &str) -> Reply {
        Call::get(path).host("localhost").to(self.admin).await
    }

    pub async fn metrics(&self) -> Metrics {
        let page = self.page("/metrics").await;
        assert_eq!(page.status, 200, "/metrics");
        Metrics::parse(&page.text())
    }

    pub async fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().await.sum(name, labels)
    }

    /// Waits until the sum of these samples is as asked.
    pub async fn until_sum(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        good: impl Fn(f64) -> bool,
    ) -> f64 {
        let (good, what) = (&good, format!("{name}{labels:?} as asked"));
        until(&what, || async {
            Some(self.sum(name, labels).await).filter(|sum| good(*sum))
        })
        .await
    }

    /// The revision of the policy in force.
    pub async fn revision(&self) -> String {
        let metrics = self.metrics().await;
        let sample = metrics
            .matching("outrider_policy_info", &[])
            .next()
            .expect("outrider_policy_info is there");
        sample
            .labels
            .get(names::label::REVISION)
            .expect("with a revision")
            .clone()
    }

    /// Replaces the policy by `text`, signals, and waits until it is in force.
    pub async fn reload(&self, text: &str) -> String {
        let before = self.revision().await;
        write(&self.policy, text);
        self.signal("HUP");
        let before = &before;
        until("the new revision", || async {
            Some(self.revision().await).filter(|now| now != before)
        })
        .await
    }

    pub fn errors(&self) -> Vec<String> {
        self.stderr.all()
    }

    /// Every access log line so far.
    ///
    /// # Panics
    /// When a line of stdout is not a JSON object.
    pub fn log(&self) -> Vec<Value> {
        let parse = |line: &String| match serde_json::from_str(line) {
            Ok(Value::Object(object)) => Value::Object(object),
            _ => panic!("stdout carries only access log lines of JSON: {line:?}"),
        };
        self.stdout.all().iter().map(parse).collect()
    }

    /// Waits for the first line that is as asked.
    pub async fn logged(&self, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        let good = &good;
        until(what, || async {
            self.log().into_iter().find(|line| good(line))
        })
        .await
    }

    /// Waits for the line of this path.
    pub async fn logged_path(&self, path: &str) -> Value {
        self.logged(&format!("a log line of {path}"), |line| {
            line[names::log::PATH] == path
        })
        .await
    }
}

/// Writes the policy; gives the file to rewrite and the argument to run with.
fn place(setup: &Setup, dir: &Path) -> (PathBuf, PathBuf) {
    if !setup.mounted {
        let policy = dir.join("outrider.yaml");
        setup.write(&policy);
        return (policy.clone(), policy);
    }
    let mount = dir.join("mount");
    std::fs::create_dir(&mount).expect("the mount");
    swap_mount(&mount, 0, &setup.text());
    std::os::unix::fs::symlink("..data/outrider.yaml", mount.join("outrider.yaml"))
        .expect("the visible name");
    (mount.join("outrider.yaml"), mount)
}

/// Puts a new content into a mounted directory the way the kubelet does: a new data directory, then one rename.
pub fn swap_mount(mount: &Path, version: usize, text: &str) {
    let data = format!("..version_{version}");
    std::fs::create_dir(mount.join(&data)).expect("a data directory");
    std::fs::write(mount.join(&data).join("outrider.yaml"), text).expect("the new policy");
    let aside = mount.join("..data_tmp");
    std::os::unix::fs::symlink(&data, &aside).expect("the new link");
    std::fs::rename(&aside, mount.join("..data")).expect("the swap");
    if let Some(old) = version.checked_sub(1) {
        std::fs::remove_dir_all(mount.join(format!("..version_{old}"))).expect("the old data goes");
    }
}
