//! Where the demo is shown: a table drawn over itself on a terminal, plain lines elsewhere.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::time::Duration;

use crate::cli::demo::summary::Report;
use crate::cli::demo::table;
use crate::cli::demo::table::Snapshot;
use crate::cli::paint::Paint;

/// The stream of the show.
pub struct Screen {
    out: Box<dyn Write>,
    terminal: bool,
    paint: Paint,
    /// Lines of the table that stands on the terminal now.
    drawn: usize,
}

impl Screen {
    /// On stdout, or on stderr when stdout is to carry the JSON object alone.
    #[must_use]
    pub fn open(json: bool) -> Screen {
        let (out, terminal, paint): (Box<dyn Write>, bool, Paint) = if json {
            (
                Box::new(io::stderr()),
                io::stderr().is_terminal(),
                Paint::to(&io::stderr()),
            )
        } else {
            (
                Box::new(io::stdout()),
                io::stdout().is_terminal(),
                Paint::to(&io::stdout()),
            )
        };
        let dumb = std::env::var_os("TERM").is_none_or(|value| value == "dumb");
        Screen {
            out,
            terminal: terminal && !dumb,
            paint,
            drawn: 0,
        }
    }

    /// Whether the table is drawn over itself.
    #[must_use]
    pub fn redraws(&self) -> bool {
        self.terminal
    }

    /// What is going to happen.
    ///
    /// # Errors
    /// When the stream takes no more.
    pub fn intro(&mut self, policy: &str, rate: u32, total: Duration) -> io::Result<()> {
        let title = self.paint.bold("outrider demo");
        writeln!(
            self.out,
            "{title}: one service, three endpoints, {:.0} s of trouble; {rate} requests a second straight to it and the same \
             {rate} through outrider with this policy:\n",
            total.as_secs_f64()
        )?;
        for line in policy.lines() {
            writeln!(self.out, "    {}", self.paint.dim(line))?;
        }
        writeln!(self.out)?;
        self.out.flush()
    }

    /// One moment.
    ///
    /// # Errors
    /// When the stream takes no more.
    pub fn show(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        if self.terminal {
            let table = table::live(snapshot, self.paint);
            self.wipe()?;
            self.out.write_all(table.as_bytes())?;
            self.drawn = table.lines().count();
        } else {
            writeln!(self.out, "{}", table::line(snapshot))?;
        }
        self.out.flush()
    }

    /// The summary, in place of the table.
    ///
    /// # Errors
    /// When the stream takes no more.
    pub fn end(&mut self, report: &Report<'_>) -> io::Result<()> {
        self.wipe()?;
        let gap = if self.terminal { "" } else { "\n" };
        write!(self.out, "{gap}{}", report.words(self.paint))?;
        self.out.flush()
    }

    /// Up over the table that stands there, and clear to the end of the screen.
    fn wipe(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.out, "\x1b[{}F\x1b[J", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }
}
