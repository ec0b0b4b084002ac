//! The nodes of the shared Redis as a person wants to see them: who is there, in which role, how fast.

use std::time::Duration;

use redis::Value;
use redis::cluster_routing::RoutingInfo;
use redis::cluster_routing::SingleNodeRoutingInfo;
use serde_json::json;

use crate::clock;
use crate::shared::link::Link;

/// More than these are neither asked nor shown.
const NODES_MAX: usize = 128;
/// A node that takes longer is down.
const PATIENCE: Duration = Duration::from_secs(1);

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `host:port`.
    pub name: String,
    /// Whether it serves slots, or follows one that does.
    pub is_primary: bool,
    /// It answered; of a replica, that its cluster lists it.
    pub is_up: bool,
    /// How fast.
    pub latency: Option<Duration>,
}

impl Node {
    /// `primary` or `replica`.
    pub fn role(&self) -> &'static str {
        if self.is_primary {
            "primary"
        } else {
            "replica"
        }
    }

    /// For a person.
    pub fn describe(&self) -> serde_json::Value {
        json!({
            "node": self.name,
            "role": self.role(),
            "up": self.is_up,
            "latency_ms": self.latency.map(|latency| latency.as_secs_f64() * 1e3),
        })
    }
}

/// Asks all of them, at once.
pub async fn look(link: &Link) -> Vec<Node> {
    match link {
        Link::Single(_, name) => {
            let mut link = link.clone();
            let ping = redis::cmd("PING");
            let latency = timed(link.command(&ping)).await;
            vec![Node {
                name: name.clone(),
                is_primary: true,
                is_up: latency.is_some(),
                latency,
            }]
        }
        Link::Cluster(cluster) => {
            let mut asked = link.clone();
            let slots = redis::cmd("CLUSTER").arg("SLOTS").to_owned();
            let slots = tokio::time::timeout(PATIENCE, asked.command(&slots)).await;
            let nodes = match slots {
                Ok(Ok(slots)) => listed(&slots),
                _ => Vec::new(),
            };
            let pings = nodes.into_iter().map(|mut node| {
                let mut cluster = cluster.clone();
                async move {
                    if let Some((host, port)) = address(&node.name).filter(|_| node.is_primary) {
                        let node_info = SingleNodeRoutingInfo::ByAddress { host, port };
                        let ping = redis::cmd("PING");
                        let route = RoutingInfo::SingleNode(node_info);
                        node.latency = timed(cluster.route_command(ping, route)).await;
                        node.is_up = node.latency.is_some();
                    }
                    node
                }
            });
            futures_util::future::join_all(pings).await
        }
    }
}

async fn timed<T>(command: impl Future<Output = redis::RedisResult<T>>) -> Option<Duration> {
    let began = clock::now();
    let answer = tokio::time::timeout(PATIENCE, command).await;
    let took = clock::now().saturating_duration_since(began);
    answer.ok()?.ok().map(|_| took)
}

fn address(name: &str) -> Option<(String, u16)> {
    let (host, port) = name.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

/// What CLUSTER SLOTS answers: ranges of slots, each with its primary first.
pub(super) fn listed(slots: &Value) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    let Value::Array(ranges) = slots else {
        return nodes;
    };
    for range in ranges {
        let Value::Array(range) = range else { continue };
        for (at, node) in range.iter().skip(2).enumerate() {
            let Value::Array(node) = node else { continue };
            let [host, Value::Int(port), ..] = node.as_slice() else {
                continue;
            };
            let (Some(host), true) = (text(host), nodes.len() < NODES_MAX) else {
                continue;
            };
            let name = format!("{host}:{port}");
            if nodes.iter().all(|known| known.name != name) {
                nodes.push(Node {
                    name,
                    is_primary: at == 0,
                    is_up: true,
                    latency: None,
                });
            }
        }
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text.as_str()),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}
