//! The client of hickory: one query, and who to ask.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::config::NameServerConfig;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::config::ResolverOpts;
use hickory_resolver::net::DnsError;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr;
use hickory_resolver::proto::rr::RecordType;

use crate::endpoint::discover::dns::Options;
use crate::endpoint::discover::machine::Part;
use crate::endpoint::discover::machine::Why;

/// Where the resolver of a host without `/etc/resolv.conf` is looked for, after resolv.conf(5).
const LAST_RESORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// One kind of addresses of one absolute name.
pub async fn query(client: &TokioResolver, name: &rr::Name, kind: RecordType) -> Part {
    match client.lookup(name.clone(), kind).await {
        Ok(lookup) => {
            let answers = lookup.answers();
            let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or(0);
            let of_kind = answers.iter().filter(|record| record.record_type() == kind);
            let addresses = of_kind
                .filter_map(|record| record.data.ip_addr())
                .filter(|&ip| is_usable(ip));
            Part::of(addresses.collect(), Duration::from_secs(u64::from(ttl)))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Part::Empty,
            code => Part::Failed(why(code)),
        },
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Part::Failed(why(code)),
        Err(NetError::Timeout) => Part::Failed(Why::TimedOut),
        Err(NetError::Io(_) | NetError::NoConnections | NetError::Busy) => {
            Part::Failed(Why::Unreachable)
        }
        Err(_) => Part::Failed(Why::Malformed),
    }
}

fn why(code: ResponseCode) -> Why {
    if code == ResponseCode::Refused {
        Why::Refused
    } else {
        Why::ServerFailed
    }
}

/// Blocklists answer 0.0.0.0, and to connect there is to connect to oneself.
fn is_usable(address: IpAddr) -> bool {
    !(address.is_unspecified()
        || address.is_multicast()
        || address == IpAddr::V4(Ipv4Addr::BROADCAST))
}

pub fn explicit(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let ways = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
            way.port = address.port();
            way
        });
        NameServerConfig::new(address.ip(), true, ways.to_vec())
    };
    ResolverConfig::from_name_servers(servers.iter().map(server).collect())
}

pub fn system() -> (ResolverConfig, ResolverOpts, Vec<rr::Name>) {
    match hickory_resolver::system_conf::read_system_conf() {
        Ok((config, opts)) => {
            let (domain, search, servers) = config.into_parts();
            // The domain is of use only where there is no list, after resolv.conf(5).
            let search = if search.is_empty() {
                domain.into_iter().collect()
            } else {
                search
            };
            (ResolverConfig::from_name_servers(servers), opts, search)
        }
        Err(why) => {
            tracing::warn!(%why, server = %LAST_RESORT, "cannot read /etc/resolv.conf");
            (
                explicit(&[LAST_RESORT]),
                ResolverOpts::default(),
                Vec::new(),
            )
        }
    }
}

pub fn names(domains: &[String]) -> Vec<rr::Name> {
    domains
        .iter()
        .filter_map(|domain| rr::Name::from_str_relaxed(domain).ok())
        .collect()
}

/// hickory sends the queries and follows CNAMEs; its cache, search list and hosts file are replaced by ours.
pub fn client(
    config: ResolverConfig,
    opts: ResolverOpts,
    options: &Options,
) -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let timeout = opts.timeout.min(options.timeout);
    *builder.options_mut() = opts;
    let opts = builder.options_mut();
    opts.timeout = timeout;
    opts.attempts = options.retries;
    opts.cache_size = 0;
    opts.use_hosts_file = ResolveHosts::Never;
    builder.build()
}
