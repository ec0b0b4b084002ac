//! `outrider route`

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use http::Method;
use http::Uri;
use serde_json::Value;
use serde_json::json;

use crate::cli::out;
use crate::cli::policy;
use crate::config;
use crate::config::Endpoints;
use crate::config::Loaded;
use crate::config::Policy;
use crate::config::Protocol;
use crate::config::Route;
use crate::config::Unmatched;
use crate::config::Upstream;
use crate::kit::units;

/// `outrider route`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider route policy.yaml GET http://payments.shop/charges/7
  outrider route policy.yaml POST payments.shop:8080/charges
  outrider route /etc/outrider GET http://payments.shop/ --format json

Nothing is sent and nothing needs to run. Each value is shown with where it comes from: `builtin`, `defaults:2` (line 2),
`upstreams[0]:7`.

Exit codes: 0 told, 2 the policy does not load, or the method or URL cannot be read.")]
pub struct Args {
    /// Policy file, or a directory of *.yaml
    #[arg(value_name = "CONFIG")]
    config: PathBuf,

    /// Method of the request
    #[arg(value_name = "METHOD", value_parser = method)]
    method: Method,

    /// URL of the request; without a scheme, http
    #[arg(value_name = "URL", value_parser = Target::parse)]
    url: Target,

    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person
    Text,
    /// One JSON object
    Json,
}

/// The parts of a URL that decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Without brackets and port.
    pub host: String,
    /// As written, or 80, or 443 for `https`.
    pub port: u16,
    /// Without the query; `/` if empty.
    pub path: String,
    /// Whether the application encrypts by itself.
    pub tls: bool,
}

impl Target {
    /// Reads an absolute http or https URL, or one without its scheme.
    ///
    /// # Errors
    /// If it has no host, userinfo, or another scheme.
    pub fn parse(text: &str) -> Result<Target, String> {
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = whole
            .parse()
            .map_err(|error| format!("`{text}` is not a URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            other => {
                return Err(format!(
                    "the scheme is `{}`, not http or https",
                    other.unwrap_or_default()
                ));
            }
        };
        let authority = uri
            .authority()
            .ok_or_else(|| format!("`{text}` has no host"))?;
        if authority.as_str().contains('@') {
            return Err(
                "a URL with a user name in it is refused; no such request is forwarded".to_owned(),
            );
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(format!("`{text}` has no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Target {
            host,
            port,
            path: uri.path().to_owned(),
            tls,
        })
    }
}

fn method(text: &str) -> Result<Method, String> {
    // Methods are case-sensitive (RFC 9110 section 9.1): `get` would be forwarded, and would match no route.
    let method: Method = text
        .parse()
        .map_err(|_| format!("`{text}` is not a method"))?;
    let upper = text.to_ascii_uppercase();
    if upper == text {
        Ok(method)
    } else {
        Err(format!(
            "methods are case-sensitive; did you mean `{upper}`?"
        ))
    }
}

/// The command.
pub fn run(args: &Args) -> ExitCode {
    let loaded = match policy::load(std::slice::from_ref(&args.config)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let chosen = choose(&loaded.policy, args.method.as_str(), &args.url);
    let text = match args.format {
        Format::Text => chosen.text(&loaded),
        Format::Json => format!("{}\n", chosen.json(&loaded)),
    };
    out::finish(&text, 0)
}

/// What takes a request.
pub struct Chosen<'a> {
    /// Place in the policy and the block; `None` for unmatched traffic.
    pub upstream: Option<(usize, &'a Upstream)>,
    /// The route, the upstream's base, or the fallback.
    pub route: &'a Route,
    target: &'a Target,
}

/// Finds upstream and route as the data path does: the most specific match wins, the first of equals.
#[must_use]
pub fn choose<'a>(policy: &'a Policy, method: &str, target: &'a Target) -> Chosen<'a> {
    let upstream = policy
        .upstreams
        .iter()
        .enumerate()
        .filter(|(_, upstream)| upstream.pattern.matches(&target.host, target.port))
        .min_by_key(|(_, upstream)| Reverse(upstream.pattern.specificity()));
    let route = match upstream {
        None => &policy.fallback,
        Some((_, upstream)) => upstream
            .routes
            .iter()
            .filter_map(|route| Some((route.matcher.as_ref()?, route)))
            .filter(|(matcher, _)| matcher.matches(method, &target.path))
            .min_by_key(|(matcher, _)| Reverse(matcher.specificity()))
            .map_or(&upstream.base, |(_, route)| route),
    };
    Chosen {
        upstream,
        route,
        target,
    }
}

impl Chosen<'_> {
    fn name(&self) -> &str {
        self.upstream
            .map_or("(unmatched)", |(_, upstream)| &upstream.name)
    }

    /// What the settings do not say by themselves.
    fn notes(&self, policy: &Policy) -> Vec<String> {
        let mut notes = Vec::new();
        if self.upstream.is_none() {
            notes.push(match policy.unmatched {
                Unmatched::Deny => {
                    "no upstream names this host, and `unmatched: deny`: answered 403 `unmatched`"
                        .to_owned()
                }
                Unmatched::Pass => {
                    "no upstream names this host: forwarded with the defaults".to_owned()
                }
            });
        }
        if self
            .upstream
            .is_some_and(|(_, upstream)| upstream.protocol == Protocol::Tcp)
        {
            notes.push("`protocol: tcp`: tunnelled as it is; nothing below but the connect timeout applies".to_owned());
        } else if self.target.tls {
            notes.push("the application encrypts by itself: tunnelled; retry and breaker cannot see inside".to_owned());
        }
        notes
    }

    fn endpoints(&self) -> String {
        match self.upstream.map(|(_, upstream)| &upstream.endpoints) {
            Some(Endpoints::Static(list)) => list
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            Some(Endpoints::Dns) => format!("dns: {}:{}", self.target.host, self.target.port),
            Some(Endpoints::Original) | None => {
                "original: where the application dialled".to_owned()
            }
        }
    }

    /// The answer for a person.
    #[must_use]
    pub fn text(&self, loaded: &Loaded) -> String {
        let worst = config::worst_case(self.route);
        let mut out = String::new();
        let latency = units::format_duration(worst.latency);
        for (title, value) in [
            ("upstream", self.name().to_owned()),
            ("route", self.route.name.clone()),
            ("endpoints", self.endpoints()),
            (
                "worst case",
                format!("{} tries, {latency}", worst.tries).replace("1 tries", "1 try"),
            ),
        ] {
            let _ = writeln!(out, "{title:10}  {value}");
        }
        for note in self.notes(&loaded.policy) {
            let _ = writeln!(out, "{:10}  {note}", "note");
        }
        let Some(effective) = self.effective(loaded) else {
            return out;
        };
        let width = |of: fn(&config::Effect) -> &str| {
            effective
                .iter()
                .map(|e| of(e).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (path, value) = (width(|e| &e.path), width(|e| &e.value).min(24));
        out.push('\n');
        for effect in effective {
            let _ = writeln!(
                out,
                "{:path$}  {:value$}  {}",
                effect.path, effect.value, effect.origin
            );
        }
        out
    }

    /// The answer for a program.
    #[must_use]
    pub fn json(&self, loaded: &Loaded) -> Value {
        let worst = config::worst_case(self.route);
        let values: Vec<Value> = self
            .effective(loaded)
            .unwrap_or_default()
            .iter()
            .map(|effect| json!({ "path": effect.path, "value": effect.value, "origin": effect.origin }))
            .collect();
        json!({
            "upstream": self.name(),
            "matched": self.upstream.is_some(),
            "route": self.route.name,
            "endpoints": self.endpoints(),
            "worst_case": { "tries": worst.tries, "latency_ms": worst.latency.as_secs_f64() * 1000.0 },
            "notes": self.notes(&loaded.policy),
            "values": values,
        })
    }

    fn effective<'l>(&self, loaded: &'l Loaded) -> Option<&'l [config::Effect]> {
        let index = self.upstream.map(|(index, _)| index);
        loaded
            .effective
            .find(index, &self.route.name)
            .map(|route| route.values.as_slice())
    }
}
