//! Active health checks.

use super::Key;
use super::Kind;
use super::Switch;
use super::Table;
use super::checks;
use super::rooms::MODES;

/// `health`.
pub static HEALTH: Table = Table {
    name: "health",
    doc: "Probes of each endpoint, once for all workers. Those that fail are left out; when all fail, all are used. Unmatched traffic is not probed.",
    short: Some("probe"),
    switch: Switch::Mode,
    keys: &[
        Key::new(
            "mode",
            Kind::Words(MODES),
            "off",
            "`shadow` probes, counts and tells, but leaves every endpoint in.",
        ),
        Key::new(
            "probe",
            Kind::Words(&["auto", "http", "tcp", "grpc", "redis", "postgres"]),
            "auto",
            "What is spoken, always without TLS. `auto`: http, or grpc where `service` is named.",
        ),
        Key::new(
            "get",
            Kind::Text(&checks::PATH),
            "/healthz",
            "The path of the HTTP probe. Host is the upstream's name; redirects are not followed.",
        ),
        Key::new(
            "expect",
            Kind::List(&Kind::Text(&checks::STATUSES), 1),
            "[2xx, 3xx]",
            "Statuses with which the HTTP probe passes: `204`, or a class such as `2xx`.",
        ),
        Key::new(
            "service",
            Kind::Text(&checks::GRPC_SERVICE),
            "",
            "The service that the gRPC probe asks for. Default: the server as a whole.",
        ),
        Key::new(
            "every",
            Kind::Duration("100ms", "1h"),
            "5s",
            "Time between two probes of an endpoint, +-15%. The first comes within a second.",
        ),
        Key::new(
            "timeout",
            Kind::Duration("1ms", "1m"),
            "1s",
            "How long one probe may take, with its connection. At most `every`.",
        ),
        Key::new(
            "healthy",
            Kind::Count(1, 100),
            "2",
            "Successes in a row that bring an endpoint back.",
        ),
        Key::new(
            "unhealthy",
            Kind::Count(1, 100),
            "3",
            "Failures in a row that take it out.",
        ),
    ],
};
