//! What a key needs beside it to be taken.

/// What a key needs beside it.
pub fn needed(path: &str) -> &'static str {
    match path {
        "identity.files.cert" => "    key: /key\n    ca: /ca\n",
        "identity.files.key" => "    cert: /cert\n    ca: /ca\n",
        "identity.files.ca" => "    cert: /cert\n    key: /key\n",
        "identity.bundle.ca" => "    pem: /pem\n",
        "redis.tls.cert" => "    key: /etc/key.pem\n  nodes: [\"localhost:6379\"]\n",
        "redis.tls.key" => "    cert: /etc/cert.pem\n  nodes: [\"localhost:6379\"]\n",
        "identity.trust" => "  bundle: /pem\n",
        "listen.inbound" => "inbound: 70\n",
        "audit.file"
        | "redis.nodes"
        | "inbound.app"
        | "inbound.limit.rps"
        | "inbound.limit.rate"
        | "inbound.authorise.rules" => "",
        _ if path.starts_with("redis.") => "  nodes: [\"localhost:6379\"]\n",
        _ if path.starts_with("audit.") => "  file: /var/log/audit.log\n",
        _ if path.starts_with("inbound.limit.") => "    rps: 70\n",
        _ if path.starts_with("inbound.authorise.") => "    rules: [any]\n",
        _ => "",
    }
}

/// The application of an inbound block, before or behind the key that is tried.
pub fn with_app(path: &str, text: &str) -> String {
    if path.starts_with("inbound.") && path != "inbound.app" {
        return text.replace("inbound:\n", "inbound:\n  app: 70\n");
    }
    text.to_owned()
}
