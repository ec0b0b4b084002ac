//! The client: finds a cluster from its seeds, follows a failover, comes back by itself, takes a new password.

use crate::shared::page;
use crate::shared::until_state;
use crate::shared::up;
use crate::support::pki::Ca;
use crate::support::ports;
use crate::support::redis;
use crate::support::redis::Cluster;
use crate::support::setup::Setup;
use crate::support::setup::write;
use crate::support::until;

#[tokio::test]
async fn a_cluster_is_discovered_from_two_seeds_and_a_failover_followed() {
    let mut cluster = Cluster::start().await;
    let setup = Setup::new().top(&format!("redis: {}", cluster.seeds()));
    let proxy = setup.start().await;
    let told = up(&proxy).await;
    assert_eq!(told["topology"], "cluster");
    let nodes = |told: &serde_json::Value, role: &str| {
        let nodes = told["nodes"].as_array().expect("a list").iter();
        nodes
            .filter(|node| node["role"] == role && node["up"] == true)
            .count()
    };
    let told = until("all six are listed", || async {
        Some(page(&proxy).await)
            .filter(|told| nodes(told, "primary") == 3 && nodes(told, "replica") == 3)
    })
    .await;
    assert!(told["nodes"][0]["node"].is_string());
    assert_eq!(proxy.sum("outrider_shared_up", &[]).await, 1.0);
    assert_eq!(
        proxy
            .sum("outrider_shared_node_up", &[("role", "primary")])
            .await,
        3.0
    );
    assert!(proxy.sum("outrider_shared_node_latency_seconds", &[]).await > 0.0);

    let killed = cluster.primary_of("outrider:any").await;
    cluster.nodes[killed].kill();
    let gone = cluster.nodes[killed].addr.to_string();
    until("a replica was promoted, and the proxy sees it", || async {
        let told = page(&proxy).await;
        let listed = told["nodes"].as_array()?.iter();
        let is_primary =
            |node: &serde_json::Value| node["node"] == gone.as_str() && node["role"] == "primary";
        (told["state"] == "up" && nodes(&told, "primary") == 3 && !listed.clone().any(is_primary))
            .then_some(())
    })
    .await;

    cluster.stop();
    until("every node is shown as down", || async {
        (nodes(&page(&proxy).await, "primary") == 0).then_some(())
    })
    .await;
    cluster.start_again();
    cluster.whole().await;
    until("it is back by itself", || async {
        let told = page(&proxy).await;
        (told["state"] == "up" && nodes(&told, "primary") == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_single_redis_that_comes_late_goes_and_comes_back_is_found_each_time() {
    let mut server = redis::single(&[]).await;
    server.stop();
    let setup = Setup::new().top(&format!(
        "redis: [\"{}\", \"{}\"]",
        ports::closed(),
        server.addr
    ));
    let proxy = setup.start().await;
    assert_eq!(page(&proxy).await["state"], "away", "nobody waits for it");
    server.start();
    let told = up(&proxy).await;
    assert_eq!(told["topology"], "single");
    until("its node is shown", || async {
        (page(&proxy).await["nodes"][0]["up"] == true).then_some(())
    })
    .await;
    server.kill();
    until("its node is shown as down", || async {
        (page(&proxy).await["nodes"][0]["up"] == false).then_some(())
    })
    .await;
    server.start();
    until("its node is up", || async {
        let told = page(&proxy).await;
        (told["nodes"][0]["up"] == true && told["state"] == "up").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_password_is_read_again_when_it_changes() {
    let server = redis::single(&["--requirepass", "first"]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    write(&file, "first\n");
    let block = format!(
        "redis: {{ nodes: [\"{}\"], password: \"file:{}\" }}",
        server.addr,
        file.display()
    );
    let proxy = Setup::new().top(&block).start().await;
    up(&proxy).await;
    let dials = || proxy.sum("outrider_shared_dials_total", &[("result", "ok")]);
    let before = dials().await;

    let client = format!("redis://:first@{}/", server.addr);
    let client = ::redis::Client::open(client).expect("a URL");
    let mut other = client
        .get_multiplexed_async_connection()
        .await
        .expect("it logs in");
    let () = redis::typed("CONFIG SET requirepass second")
        .query_async(&mut other)
        .await
        .expect("it may");
    write(&file, "second\n");
    until("it has dialled again", || async {
        (dials().await > before).then_some(())
    })
    .await;
    // Whoever is logged in stays so; only a new connection shows that the new one is used.
    let () = redis::typed("CLIENT KILL TYPE normal SKIPME yes")
        .query_async(&mut other)
        .await
        .expect("it may");
    up(&proxy).await;
    until("the node answers", || async {
        (page(&proxy).await["nodes"][0]["up"] == true).then_some(())
    })
    .await;
    let errors = proxy.errors().join("\n");
    assert!(
        !errors.contains("second"),
        "no password is logged: {errors}"
    );
}

#[tokio::test]
async fn a_reload_keeps_the_connection_unless_it_is_to_another_redis() {
    let (one, other) = (redis::single(&[]).await, redis::single(&[]).await);
    let block = |addr| format!("redis: [\"{addr}\"]");
    let proxy = Setup::new().top(&block(one.addr)).start().await;
    up(&proxy).await;
    let dials = || proxy.sum("outrider_shared_dials_total", &[("result", "ok")]);
    let before = dials().await;
    let text = proxy.setup.text();
    proxy.reload(&format!("{text}\nunmatched: deny\n")).await;
    assert_eq!(page(&proxy).await["state"], "up");
    assert_eq!(dials().await, before, "it was not dialled again");
    let moved = text.replace(&one.addr.to_string(), &other.addr.to_string());
    proxy.reload(&moved).await;
    let told = up(&proxy).await;
    assert_eq!(told["seeds"][0], other.addr.to_string());
    proxy.reload(&text.replace(&block(one.addr), "")).await;
    until_state(&proxy, "off").await;
    let is_down = |sum| sum == 0.0;
    proxy.until_sum("outrider_shared_up", &[], is_down).await;
}

#[tokio::test]
async fn a_redis_behind_tls_is_believed_by_the_anchors_of_the_policy_alone() {
    let (ca, other) = (Ca::new("redis"), Ca::new("other"));
    let issued = ca.server("localhost");
    let dir = tempfile::tempdir().expect("a directory");
    let lay = |name: &str, text: &str| {
        let path = dir.path().join(name);
        write(&path, text);
        path.display().to_string()
    };
    let (cert, key) = (lay("cert.pem", &issued.cert), lay("key.pem", &issued.key));
    let (anchors, others) = (lay("ca.pem", &ca.pem()), lay("other.pem", &other.pem()));
    let port = ports::free().to_string();
    let _server = redis::single(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &anchors,
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let block =
        |ca: &str| format!("redis: {{ nodes: [\"localhost:{port}\"], tls: {{ ca: {ca} }} }}");
    let proxy = Setup::new().top(&block(&anchors)).start().await;
    up(&proxy).await;
    let strange = Setup::new().top(&block(&others)).start().await;
    let failed = |sum| sum >= 1.0;
    strange
        .until_sum(
            "outrider_shared_dials_total",
            &[("result", "failed")],
            failed,
        )
        .await;
    let told = page(&strange).await;
    assert_eq!(told["state"], "away");
    let why = told["trouble"].as_str().unwrap_or_default();
    assert!(why.to_lowercase().contains("certificate"), "{why}");
}
