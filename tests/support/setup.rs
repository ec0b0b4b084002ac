//! A policy and the arguments of a proxy, said in few words.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::call::HOST;
use super::ports;
use super::proxy::Proxy;

/// Everything a proxy is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub outbound: u16,
    pub explicit: u16,
    pub admin: u16,
    /// Only opened when the policy has an `inbound` block.
    pub inbound: u16,
    is_inbound: bool,
    limits: String,
    head: String,
    upstreams: String,
    pub args: Vec<String>,
    /// The policy stands in a directory as a mounted ConfigMap does.
    pub mounted: bool,
}

impl Setup {
    /// Free ports, no upstream yet.
    pub fn new() -> Self {
        Setup {
            outbound: ports::free(),
            explicit: ports::free(),
            admin: ports::free(),
            inbound: ports::free(),
            is_inbound: false,
            limits: String::new(),
            head: String::new(),
            upstreams: String::new(),
            args: Vec::new(),
            mounted: false,
        }
    }

    /// The commonest proxy: [`HOST`] at these endpoints.
    pub fn shop(endpoints: &[SocketAddr], settings: &str) -> Self {
        Self::new().upstream(HOST, endpoints, settings)
    }

    /// An upstream with a static list; `settings` are further lines of its block, indented from 0.
    pub fn upstream(self, pattern: &str, endpoints: &[SocketAddr], settings: &str) -> Self {
        let list: Vec<String> = endpoints
            .iter()
            .map(|addr| {
                if addr.is_ipv6() {
                    format!("\"{addr}\"")
                } else {
                    addr.to_string()
                }
            })
            .collect();
        self.block(&format!(
            "upstream: \"{pattern}\"\nendpoints: [{}]\n{settings}",
            list.join(", ")
        ))
    }

    /// An upstream as written.
    pub fn block(mut self, lines: &str) -> Self {
        for (at, line) in lines.lines().enumerate() {
            let lead = if at == 0 { "  - " } else { "    " };
            writeln!(self.upstreams, "{lead}{line}").expect("a String takes all");
        }
        self
    }

    /// A line of the top level, such as `unmatched: deny`.
    pub fn top(mut self, line: &str) -> Self {
        writeln!(self.head, "{line}").expect("a String takes all");
        self
    }

    /// The inside of an `inbound: { ... }` on one line, and its port is opened.
    pub fn inbound(mut self, inside: &str) -> Self {
        self.is_inbound = true;
        self.top(&format!("inbound: {{ {inside} }}"))
    }

    /// The inside of `listen: { limits: { ... } }`.
    pub fn limits(mut self, limits: &str) -> Self {
        limits.clone_into(&mut self.limits);
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    pub fn mounted(mut self) -> Self {
        self.mounted = true;
        self
    }

    /// The policy file.
    pub fn text(&self) -> String {
        let limits = if self.limits.is_empty() {
            String::new()
        } else {
            format!(", limits: {{ {} }}", self.limits)
        };
        let (outbound, explicit, admin) = (self.outbound, self.explicit, self.admin);
        let inbound = if self.is_inbound {
            format!(", inbound: {}", self.inbound)
        } else {
            String::new()
        };
        let listen = format!(
            "listen: {{ outbound: {outbound}, explicit: {explicit}, admin: {admin}{inbound}{limits} }}"
        );
        let upstreams = if self.upstreams.is_empty() {
            ""
        } else {
            "upstreams:\n"
        };
        format!(
            "service: test\n{listen}\n{}{upstreams}{}",
            self.head, self.upstreams
        )
    }

    /// Writes the policy where the proxy will look for it.
    pub fn write(&self, path: &Path) {
        write(path, &self.text());
    }

    pub async fn start(self) -> Proxy {
        Proxy::start(self).await
    }
}

/// Replaces a file in one step, so that no reader ever sees half of it.
pub fn write(path: &Path, text: &str) {
    let aside = path.with_extension("tmp");
    std::fs::write(&aside, text).expect("write beside the policy");
    std::fs::rename(&aside, path).expect("replace the policy");
}
