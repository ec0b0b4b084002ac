//! TLS to an upstream: mutual, with SPIFFE identities (`mtls`), or as any client of a web server does it (`originate`).

mod config;
mod dialer;
mod metrics;
mod roots;
mod wire;

#[cfg(test)]
mod tests;

pub use config::Mtls;
pub use config::Originate;
pub use config::Settings;
pub use config::Want;
pub use dialer::Dialer;
pub use dialer::Plan;
pub use dialer::Secured;
pub use dialer::Seen;
pub use metrics::Metrics;
pub use roots::Roots;
pub use wire::Broken;
pub use wire::Protected;
pub use wire::Wire;

/// What will be spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Nobody's business: no protocol is named (ALPN).
    Opaque,
}
