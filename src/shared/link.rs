//! How the shared Redis is dialled: secrets and certificates read, topology found, nodes discovered.

use std::path::Path;
use std::time::Duration;

use redis::Client;
use redis::ClientTlsConfig;
use redis::Cmd;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::ErrorKind;
use redis::IntoConnectionInfo;
use redis::Pipeline;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::RedisError;
use redis::RedisResult;
use redis::TlsCertificates;
use redis::Value;
use redis::aio::ConnectionLike;
use redis::aio::MultiplexedConnection;
use redis::aio::PubSub;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;

use crate::shared::Settings;
use crate::shared::config::Secret;
use crate::shared::config::Topology;

/// The longest that dialling as a whole may take.
pub const DIAL: Duration = Duration::from_secs(2);
/// The longest that one node may take to be connected to.
const CONNECT: Duration = Duration::from_millis(500);
/// A command that no node answered for so long is given up by the driver too, whoever still waits for it.
const RESPONSE: Duration = Duration::from_millis(500);
/// Commands that wait for one node at once.
const CONCURRENT: usize = 1024;

/// Why a Redis could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// A secret or a certificate could not be read.
    #[error("cannot read {what}: {error}")]
    Unreadable {
        /// Which.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The environment has no such variable.
    #[error("cannot read {0}: no such variable")]
    Unset(String),
    /// What Redis or the network said.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// Took too long.
    #[error("no answer within {DIAL:?}")]
    Late,
}

/// A connection to the whole.
#[derive(Clone)]
pub enum Link {
    /// To every node of a cluster.
    Cluster(ClusterConnection),
    /// To one Redis, and its name.
    Single(MultiplexedConnection, String),
}

impl Link {
    /// One command.
    pub async fn command(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Cluster(link) => link.req_packed_command(cmd).await,
            Self::Single(link, _) => link.req_packed_command(cmd).await,
        };
        // An error that Redis answers with comes as a value.
        answer?.extract_error()
    }

    /// Several at once, of keys in one slot. An error of any is the error of all.
    pub async fn commands(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = pipeline.cmd_iter().count();
        let values = match self {
            Self::Cluster(link) => link.req_packed_commands(pipeline, 0, count).await,
            Self::Single(link, _) => link.req_packed_commands(pipeline, 0, count).await,
        };
        values?.into_iter().map(Value::extract_error).collect()
    }
}

/// What was read to dial with. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    password: Option<String>,
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl Credentials {
    /// Reads them.
    pub async fn read(settings: &Settings) -> Result<Self, DialError> {
        let password = match &settings.password {
            None => None,
            Some(Secret::Env(name)) => {
                let unset = |_| DialError::Unset(format!("env:{name}"));
                Some(std::env::var(name).map_err(unset)?)
            }
            Some(Secret::File(path)) => {
                let text = String::from_utf8_lossy(&file(path).await?).into_owned();
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
        };
        let mut read = Self {
            password,
            ..Self::default()
        };
        if let Some(tls) = &settings.tls {
            for (path, into) in [
                (&tls.ca, &mut read.ca),
                (&tls.cert, &mut read.cert),
                (&tls.key, &mut read.key),
            ] {
                if let Some(path) = path {
                    *into = Some(file(path).await?);
                }
            }
        }
        Ok(read)
    }

    fn certificates(&self) -> TlsCertificates {
        let client_tls = self.cert.clone().zip(self.key.clone());
        TlsCertificates {
            client_tls: client_tls.map(|(client_cert, client_key)| ClientTlsConfig {
                client_cert,
                client_key,
            }),
            root_cert: self.ca.clone(),
        }
    }
}

async fn file(path: &Path) -> Result<Vec<u8>, DialError> {
    tokio::fs::read(path)
        .await
        .map_err(|error| DialError::Unreadable {
            what: path.display().to_string(),
            error,
        })
}

/// Dials the whole.
///
/// # Errors
/// When no seed answers in time.
pub async fn dial(settings: &Settings, credentials: &Credentials) -> Result<Link, DialError> {
    let dialling = async {
        match settings.topology {
            Topology::Cluster => cluster(settings, credentials).await,
            Topology::Single => single(settings, credentials).await,
            Topology::Auto => match single(settings, credentials).await? {
                Link::Single(mut link, node) => {
                    match redis::cmd("CLUSTER")
                        .arg("INFO")
                        .exec_async(&mut link)
                        .await
                    {
                        Ok(()) => cluster(settings, credentials).await,
                        Err(error) if error.is_io_error() || error.is_timeout() => {
                            Err(error.into())
                        }
                        // "This instance has cluster support disabled".
                        Err(_) => Ok(Link::Single(link, node)),
                    }
                }
                link @ Link::Cluster(_) => Ok(link),
            },
        }
    };
    // The library can wait for ever at a connection that nobody answers.
    let dialled = tokio::time::timeout(DIAL, dialling).await;
    dialled.map_err(|_| DialError::Late)?
}

async fn cluster(settings: &Settings, credentials: &Credentials) -> Result<Link, DialError> {
    let nodes = settings
        .nodes
        .iter()
        .map(|node| info(node, settings, credentials, ProtocolVersion::RESP3))
        .collect::<RedisResult<Vec<_>>>()?;
    let mut builder = ClusterClientBuilder::new(nodes)
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(CONNECT)
        .response_timeout(RESPONSE)
        // Whoever waits has a deadline of its own.
        .overall_response_timeout(None)
        .connection_concurrency_limit(CONCURRENT)
        .retries(3)
        .min_retry_wait(2)
        .max_retry_wait(50);
    if settings.tls.is_some() {
        builder = builder.certs(credentials.certificates());
    }
    if let Some(username) = &settings.username {
        builder = builder.username(username);
    }
    if let Some(password) = &credentials.password {
        builder = builder.password(password);
    }
    Ok(Link::Cluster(
        builder.build()?.get_async_connection().await?,
    ))
}

/// The first node that answers.
async fn single(settings: &Settings, credentials: &Credentials) -> Result<Link, DialError> {
    let mut error = RedisError::from((ErrorKind::InvalidClientConfig, "no node is named"));
    for node in &settings.nodes {
        match one(node, settings, credentials).await {
            Ok(link) => return Ok(Link::Single(link, node.clone())),
            Err(failed) => error = failed,
        }
    }
    Err(error.into())
}

async fn one(
    node: &str,
    settings: &Settings,
    credentials: &Credentials,
) -> RedisResult<MultiplexedConnection> {
    let client = client(node, settings, credentials, ProtocolVersion::RESP3)?;
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(RESPONSE))
        .set_concurrency_limit(CONCURRENT);
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// A connection for messages alone, to any one node: a cluster carries a message to all of them.
pub async fn listen(
    node: &str,
    settings: &Settings,
    credentials: &Credentials,
) -> Result<PubSub, DialError> {
    let client = client(node, settings, credentials, ProtocolVersion::RESP2)?;
    let dialled = tokio::time::timeout(CONNECT, client.get_async_pubsub()).await;
    Ok(dialled.map_err(|_| DialError::Late)??)
}

fn client(
    node: &str,
    settings: &Settings,
    credentials: &Credentials,
    protocol: ProtocolVersion,
) -> RedisResult<Client> {
    let info = info(node, settings, credentials, protocol)?;
    if settings.tls.is_some() {
        return Client::build_with_tls(info, credentials.certificates());
    }
    Client::open(info)
}

fn info(
    node: &str,
    settings: &Settings,
    credentials: &Credentials,
    protocol: ProtocolVersion,
) -> RedisResult<ConnectionInfo> {
    let unreadable = || RedisError::from((ErrorKind::InvalidClientConfig, "not a host:port"));
    let (host, port) = node.rsplit_once(':').ok_or_else(unreadable)?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = port.parse().map_err(|_| unreadable())?;
    let addr = if settings.tls.is_some() {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut login = RedisConnectionInfo::default()
        .set_protocol(protocol)
        .set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        login = login.set_username(username);
    }
    if let Some(password) = &credentials.password {
        login = login.set_password(password);
    }
    Ok(addr.into_connection_info()?.set_redis_settings(login))
}
