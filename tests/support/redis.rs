//! Real Redis servers: one, or a cluster of three primaries and three replicas, on free ports. Each ends with the value that
//! holds it.

use std::net::SocketAddr;
use std::time::Duration;

use redis::Cmd;
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;

use super::ports;
use super::servers::Server;
use super::until;

/// How long a node may be silent before the others give it up. Long enough for a busy machine, short enough to wait for.
const NODE_TIMEOUT: &str = "1500";
const SLOTS: u32 = 16384;

/// A connection to one server, as another client would have it.
///
/// # Errors
/// When it is not there.
pub async fn open(addr: SocketAddr) -> redis::RedisResult<MultiplexedConnection> {
    let client = redis::Client::open((addr.ip().to_string(), addr.port()))?;
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_secs(5)));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// One command to one server.
///
/// # Errors
/// When it is not there, or refuses.
pub async fn ask<T: FromRedisValue>(addr: SocketAddr, cmd: &Cmd) -> redis::RedisResult<T> {
    cmd.query_async(&mut open(addr).await?).await
}

/// A command, as typed.
pub fn typed(words: &str) -> Cmd {
    let mut words = words.split(' ');
    let mut cmd = redis::cmd(words.next().expect("a command has a name"));
    words.for_each(|word| {
        cmd.arg(word);
    });
    cmd
}

/// A Redis by itself, ready.
pub async fn single(more: &[&str]) -> Server {
    let server = Server::redis(more);
    ready(server.addr).await;
    server
}

/// Waits until it answers, be it with a refusal to who has not logged in.
pub async fn ready(addr: SocketAddr) {
    until("Redis answers", || async {
        match ask::<String>(addr, &typed("PING")).await {
            Ok(_) => Some(()),
            Err(error) => error.to_string().contains("uthentication").then_some(()),
        }
    })
    .await;
}

/// Three primaries, each with a replica.
pub struct Cluster {
    /// The first three are primaries when it begins.
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// Starts it and waits until every slot is served and every replica follows.
    pub async fn start() -> Self {
        let buses: Vec<u16> = (0..6).map(|_| ports::free()).collect();
        let nodes: Vec<Server> = buses
            .iter()
            .map(|bus| {
                Server::redis(&[
                    "--cluster-enabled",
                    "yes",
                    "--cluster-port",
                    &bus.to_string(),
                    "--cluster-node-timeout",
                    NODE_TIMEOUT,
                    "--repl-diskless-sync-delay",
                    "0",
                ])
            })
            .collect();
        let cluster = Self { nodes };
        for node in &cluster.nodes {
            ready(node.addr).await;
        }
        cluster.join(&buses).await;
        cluster.whole().await;
        cluster
    }

    async fn join(&self, buses: &[u16]) {
        let first = self.nodes[0].addr;
        for (at, node) in self.nodes.iter().enumerate() {
            let at = u32::try_from(at).expect("few");
            let epoch = typed(&format!("CLUSTER SET-CONFIG-EPOCH {}", at + 1));
            let () = ask(node.addr, &epoch).await.expect("a fresh node");
            if at < 3 {
                let (from, to) = (at * SLOTS / 3, (at + 1) * SLOTS / 3 - 1);
                let slots = typed(&format!("CLUSTER ADDSLOTSRANGE {from} {to}"));
                let () = ask(node.addr, &slots).await.expect("its share");
            }
            if at > 0 {
                let meet = typed(&format!(
                    "CLUSTER MEET {} {} {}",
                    first.ip(),
                    first.port(),
                    buses[0]
                ));
                let () = ask(node.addr, &meet).await.expect("they meet");
            }
        }
        for (replica, primary) in self.nodes[3..].iter().zip(&self.nodes) {
            let id = typed("CLUSTER MYID");
            let id: String = ask(primary.addr, &id).await.expect("it has one");
            let follow = &typed(&format!("CLUSTER REPLICATE {id}"));
            // Not before it has heard of it.
            until("the replica follows", || async {
                ask::<()>(replica.addr, follow).await.ok()
            })
            .await;
        }
    }

    /// Waits until every node that runs sees all slots served, and every replica among them is up to date.
    pub async fn whole(&self) {
        for node in self.nodes.iter().filter(|node| node.runs()) {
            until("the cluster is whole", || async {
                let info: String = ask(node.addr, &typed("CLUSTER INFO")).await.ok()?;
                let role: String = ask(node.addr, &typed("INFO replication")).await.ok()?;
                let is_whole = info.contains("cluster_state:ok")
                    && info.contains(&format!("cluster_slots_ok:{SLOTS}"))
                    && info.contains("cluster_known_nodes:6");
                let follows =
                    role.contains("role:master") || role.contains("master_link_status:up");
                (is_whole && follows).then_some(())
            })
            .await;
        }
    }

    /// Two nodes to begin with, as `redis.nodes` wants them.
    pub fn seeds(&self) -> String {
        format!("[\"{}\", \"{}\"]", self.nodes[0].addr, self.nodes[4].addr)
    }

    /// Which node serves a key now, asked of any that runs.
    pub async fn primary_of(&self, key: &str) -> usize {
        let slot = typed(&format!("CLUSTER KEYSLOT {key}"));
        until("somebody serves the key", || async {
            let asked = self.nodes.iter().find(|node| node.runs())?.addr;
            let slot: i64 = ask(asked, &slot).await.ok()?;
            let slots: Vec<redis::Value> = ask(asked, &typed("CLUSTER SLOTS")).await.ok()?;
            let port = slots.iter().find_map(|range| served(range, slot))?;
            let is_it = |node: &Server| i64::from(node.addr.port()) == port;
            self.nodes.iter().position(is_it)
        })
        .await
    }

    /// Ends every node in order.
    pub fn stop(&mut self) {
        self.nodes.iter_mut().for_each(Server::stop);
    }

    /// Starts every node again, with the place in the cluster it had and without its data.
    pub fn start_again(&mut self) {
        self.nodes.iter_mut().for_each(Server::start);
    }
}

/// The port of the primary of a range, if `slot` is in it.
fn served(range: &redis::Value, slot: i64) -> Option<i64> {
    let redis::Value::Array(range) = range else {
        return None;
    };
    let [
        redis::Value::Int(from),
        redis::Value::Int(to),
        redis::Value::Array(primary),
        ..,
    ] = range.as_slice()
    else {
        return None;
    };
    match primary.get(1) {
        Some(redis::Value::Int(port)) if (*from..=*to).contains(&slot) => Some(*port),
        _ => None,
    }
}
