//! `outrider demo`: what a failing dependency does to an application, without outrider and with it, at the same time.
//!
//! One process, loopback only, no files. `origin` is the service that fails by `script`; `load` is the application, which
//! sends each request twice at the same moment: straight to the origin's endpoints in turn, and through outrider. `tally`
//! keeps what the application saw; `scrape` reads outrider's metrics and `story` makes a history of them; `table` and
//! `summary` turn it all into text.

mod load;
mod origin;
mod policy;
mod scrape;
mod screen;
mod script;
mod story;
mod summary;
mod table;
mod tally;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::app;
use crate::cli::demo::load::Side;
use crate::cli::demo::origin::Origin;
use crate::cli::demo::origin::Stage;
use crate::cli::demo::screen::Screen;
use crate::cli::demo::script::Script;
use crate::cli::demo::story::Story;
use crate::cli::demo::summary::Report;
use crate::cli::demo::table::Column;
use crate::cli::demo::table::Snapshot;
use crate::cli::demo::tally::Tally;
use crate::cli::out;
use crate::config;
use crate::kit::units;

/// Between two looks at the metrics: how exactly the times of the breaker's story are known.
const LOOK: Duration = Duration::from_millis(50);

/// Between two drawings of the table.
const REDRAW: Duration = Duration::from_millis(250);

/// Between two plain lines.
const LINE: Duration = Duration::from_secs(1);

/// `outrider demo`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outrider demo                          the whole script in 30 seconds, as a live table
  outrider demo --duration 10s           the same script, faster
  outrider demo --json 2>/dev/null       only the result, as one JSON object

Both sides get the same requests at the same moments. `straight` goes round the three endpoints in turn and asks once;
`through outrider` asks the proxy. Tries are counted by the origin, not by outrider.")]
pub struct Args {
    /// How long the script takes, from 5s to 1h
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = units::parse_duration)]
    duration: Duration,

    /// End with one JSON object on stdout; everything else goes to stderr
    #[arg(long)]
    json: bool,

    /// Which endpoint plays which part, and how long healthy ones take
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// The command.
pub fn run(args: &Args) -> ExitCode {
    if !(Duration::from_secs(5)..=Duration::from_secs(3600)).contains(&args.duration) {
        return out::refuse("--duration must be between 5s and 1h");
    }
    match play(args) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has left: the demo has no audience.
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(trouble) => out::refuse(&trouble.to_string()),
    }
}

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the demo's origin cannot start on loopback: {0}")]
    Origin(io::Error),
    #[error("the demo's policy does not load; this is a bug:\n{0}")]
    Policy(String),
    #[error("{0}")]
    Start(#[from] app::StartError),
    #[error("outrider did not open the {0} port that the demo's policy asks for; this is a bug")]
    Port(&'static str),
    #[error("the load cannot be sent: {0}")]
    Load(io::Error),
    #[error("the metrics cannot be read: {0}")]
    Metrics(io::Error),
    #[error("cannot write: {0}")]
    Output(io::Error),
}

fn play(args: &Args) -> Result<(), Trouble> {
    let stage = Stage::new(Script::new(args.duration, args.seed), args.seed);
    let origin = Origin::start(&stage).map_err(Trouble::Origin)?;
    let shown = policy::shown(origin.doors(1), args.duration);
    let running = start(&shown)?;
    let outbound = running.outbound().ok_or(Trouble::Port("outbound"))?;
    let admin = running.admin().ok_or(Trouble::Port("admin"))?;

    let mut screen = Screen::open(args.json);
    screen
        .intro(&shown, load::RATE, args.duration)
        .map_err(Trouble::Output)?;

    let tallies: [Arc<Mutex<Tally>>; 2] = Default::default();
    let sides = vec![
        Side {
            targets: origin.doors(0).to_vec(),
            tally: Arc::clone(&tallies[0]),
        },
        Side {
            targets: vec![outbound],
            tally: Arc::clone(&tallies[1]),
        },
    ];
    let sender = send(&stage, sides).map_err(Trouble::Load)?;
    let mut watch = Watch {
        stage: &stage,
        origin: &origin,
        tallies: &tallies,
        story: Story::default(),
        blind: None,
    };
    watch
        .until_sent(&sender, admin, &mut screen)
        .map_err(Trouble::Output)?;
    sender
        .join()
        .map_err(|_| Trouble::Load(io::Error::other("its thread panicked")))?
        .map_err(Trouble::Load)?;
    watch.look(admin);
    running.stop();
    if let Some(error) = watch.blind.take() {
        return Err(Trouble::Metrics(error));
    }
    let report = watch.report();
    screen.end(&report).map_err(Trouble::Output)?;
    if args.json {
        let object = report
            .json()
            .map_err(|error| Trouble::Output(error.into()))?;
        out::line(&object).map_err(Trouble::Output)?;
    }
    Ok(())
}

/// The application, on a thread of its own.
fn send(stage: &Arc<Stage>, sides: Vec<Side>) -> io::Result<JoinHandle<io::Result<()>>> {
    let stage = Arc::clone(stage);
    std::thread::Builder::new()
        .name("demo-load".into())
        .spawn(move || load::send(&stage, sides))
}

/// outrider itself, as `run` starts it, on free ports and without signals.
fn start(shown: &str) -> Result<app::Running, Trouble> {
    let loaded = config::parse("demo.yaml", &policy::whole(shown)).map_err(|faults| {
        Trouble::Policy(
            faults
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
        )
    })?;
    let options = app::Options {
        workers: Some(1),
        dns: Vec::new(),
        drain: Duration::from_secs(1),
        watch: None,
        access_log: Box::new(io::sink()),
        signals: false,
    };
    Ok(app::launch(loaded, options)?)
}

/// What the main thread looks at while the others work.
struct Watch<'a> {
    stage: &'a Stage,
    origin: &'a Origin,
    tallies: &'a [Arc<Mutex<Tally>>; 2],
    story: Story,
    /// Why the last look saw nothing. A single blind look costs nothing: counters tell the next one what it missed.
    blind: Option<io::Error>,
}

impl Watch<'_> {
    /// Looks and shows until everything has been sent and answered.
    #[expect(
        clippy::disallowed_methods,
        reason = "the main thread of the demo carries no requests"
    )]
    fn until_sent<T>(
        &mut self,
        sender: &JoinHandle<T>,
        admin: SocketAddr,
        screen: &mut Screen,
    ) -> io::Result<()> {
        let every = if screen.redraws() { REDRAW } else { LINE };
        let total = self.stage.script().total();
        let mut drawn = Duration::ZERO;
        while !sender.is_finished() {
            std::thread::sleep(LOOK);
            self.look(admin);
            let elapsed = self.stage.elapsed();
            if elapsed.saturating_sub(drawn) >= every && elapsed < total {
                drawn = elapsed;
                screen.show(&self.snapshot(elapsed))?;
            }
        }
        Ok(())
    }

    fn look(&mut self, admin: SocketAddr) {
        match scrape::look(admin) {
            Ok(view) => {
                self.story.observe(self.stage.elapsed(), view);
                self.blind = None;
            }
            Err(error) => self.blind = Some(error),
        }
    }

    fn column(&self, side: usize, elapsed: Duration) -> Column {
        let tally = self.tallies[side].lock();
        Column {
            now: tally.last_second(elapsed),
            figures: tally.figures(),
            tries: self.origin.tries(side),
        }
    }

    fn snapshot(&self, elapsed: Duration) -> Snapshot {
        let view = self.story.view();
        Snapshot {
            phase: self.stage.script().phase_at(elapsed).name,
            elapsed,
            total: self.stage.script().total(),
            straight: self.column(0, elapsed),
            outrider: self.column(1, elapsed),
            light: view.state,
            ejected: view.ejected.unwrap_or(0),
            retries: view.retries,
        }
    }

    fn report(&self) -> Report<'_> {
        let script = self.stage.script();
        let (_, up) = script.outage();
        let closed = self.story.closed_after(up);
        let [left, right] = self.tallies;
        let (left, right) = (left.lock(), right.lock());
        let (ok, all) = right.between(up, closed.unwrap_or(script.total()));
        let retriable = (
            left.retriable_success(script, closed),
            right.retriable_success(script, closed),
        );
        let by_phase = (left.by_phase(script), right.by_phase(script));
        drop((left, right));
        Report {
            script,
            straight: self.column(0, script.total()),
            outrider: self.column(1, script.total()),
            retriable,
            by_phase,
            lost_in_recovery: all - ok,
            story: &self.story,
        }
    }
}
