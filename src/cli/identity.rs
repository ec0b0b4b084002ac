//! `outrider identity`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::cli::out;
use crate::config;
use crate::identity::Current;
use crate::identity::Identity;
use crate::identity::SpiffeId;
use crate::identity::config::Settings;
use crate::identity::dev;
use crate::kit::units;

/// How long an agent of the Workload API is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// `outrider identity ...`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make an authority for trying things out, and a certificate of it
    DevCa(DevCa),
    /// Tell who the workload of a policy is, and whom it believes
    Show(Show),
}

/// `outrider identity dev-ca`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider identity dev-ca ./pki
  outrider identity dev-ca ./pki --id spiffe://dev.local/ns/shop/sa/pay --for 1h

An authority that is there already is used again; the certificate is new each time. All files are readable by their
owner alone. The block that is printed goes into a policy. Not for a network that anybody else is on: whoever has
`ca.key` is everybody.

Exit codes: 0 done, 2 a file cannot be read or written.")]
pub struct DevCa {
    /// Where the files go
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Whose certificate it is
    #[arg(long, value_name = "SPIFFE_ID", default_value = "spiffe://dev.local/ns/default/sa/app", value_parser = id)]
    id: SpiffeId,

    /// How long the certificate lasts
    #[arg(long = "for", value_name = "DURATION", default_value = "24h", value_parser = span)]
    lasts: Duration,
}

/// `outrider identity show`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider identity show policy.yaml
  outrider identity show policy.yaml --json

Reads what the policy's `identity` names, as a proxy would, and checks it.

Exit codes: 0 it can be used, 1 it cannot (it says why), 2 the policy does not load or names none.")]
pub struct Show {
    /// Policy files or directories
    #[arg(value_name = "POLICY", required = true)]
    sources: Vec<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn id(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::parse(text)
        .ok_or_else(|| format!("`{text}` is no SPIFFE ID, as spiffe://trust.domain/path"))
}

fn span(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|error| error.to_string())
}

/// The command.
pub fn run(command: &Command) -> ExitCode {
    match command {
        Command::DevCa(args) => dev_ca(args),
        Command::Show(args) => show(args),
    }
}

fn dev_ca(args: &DevCa) -> ExitCode {
    let folder = match std::path::absolute(&args.folder) {
        Ok(folder) => folder,
        Err(error) => return out::refuse(&error.to_string()),
    };
    match dev::make(&folder, &args.id, args.lasts) {
        Ok(made) => {
            let text = format!(
                "# {}, for {}; authority: {}\nidentity:\n  files:\n    cert: {}\n    key: {}\n    ca: {}\n",
                args.id,
                units::format_duration(args.lasts),
                if made.is_new { "new" } else { "as it was" },
                made.cert.display(),
                made.key.display(),
                made.ca.display(),
            );
            out::finish(&text, 0)
        }
        Err(error) => out::refuse(&error.to_string()),
    }
}

fn show(args: &Show) -> ExitCode {
    let around = config::Surroundings::of_process();
    let loaded = match config::load_with(&args.sources, &around) {
        Ok(loaded) => loaded,
        Err(faults) => return out::refuse(&config::fault::render_all(&faults)),
    };
    let Some(settings) = loaded.policy.identity else {
        return out::refuse("the policy names no `identity`");
    };
    match find(&settings) {
        Ok(identity) => out::finish(&tell(&identity, &settings, args.json), 0),
        Err(why) => out::finish(&format!("{why}\n"), 1),
    }
}

/// The identity as a proxy would have it.
fn find(settings: &Settings) -> Result<Arc<Identity>, String> {
    if let Settings::Files(files) = settings {
        let material = files.read().map_err(|trouble| trouble.to_string())?;
        let identity = Identity::new(material, &[], 1).map_err(|trouble| trouble.to_string())?;
        return Ok(Arc::new(identity));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let current = Current::new(None);
        let mut changes = current.changes();
        let following = settings.source().follow(Arc::clone(&current));
        let told = async {
            tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                () = following => false,
            }
        };
        // Whatever it was, what counts is whether there is an identity now.
        let _ = tokio::time::timeout(PATIENCE, told).await;
        current
            .get()
            .ok_or_else(|| "the Workload API gives no identity".to_owned())
    })
}

fn tell(identity: &Identity, settings: &Settings, as_json: bool) -> String {
    let at = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds)
            .map_or_else(|_far| "never".to_owned(), |at| at.to_string())
    };
    let (from, until) = (at(identity.not_before), at(identity.not_after));
    let source = settings.source().describe();
    let trusts: Vec<_> = identity.trust.domains().map(ToString::to_string).collect();
    if as_json {
        let object = json!({
            "id": identity.id.as_str(),
            "source": source,
            "not_before": from,
            "not_after": until,
            "trust_domains": trusts,
            "authorities": identity.trust.authorities().count(),
        });
        return format!("{object}\n");
    }
    format!(
        "id       {}\nsource   {source}\nvalid    {from} to {until}\nbelieves {} ({} certificates)\n",
        identity.id,
        trusts.join(", "),
        identity.trust.authorities().count(),
    )
}
