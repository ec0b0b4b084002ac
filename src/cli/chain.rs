//! The report of `outrider check --chain`: what each hop may do, and what becomes of it at the end.

use std::fmt::Write as _;

use crate::cli::paint::Paint;
use crate::config::Chain;
use crate::config::Hop;
use crate::config::Load;
use crate::kit::units;

/// The hops as a table, and below it how many calls one call can become; empty if the chain does not load.
#[must_use]
pub fn text(chain: &Chain, paint: Paint) -> String {
    let mut out = String::new();
    if !chain.hops.is_empty() {
        hops(&mut out, chain, paint);
        out.push('\n');
        end(&mut out, chain, paint);
    }
    out
}

fn hops(out: &mut String, chain: &Chain, paint: Paint) {
    let title = [
        "hop",
        "caller",
        "calls",
        "route",
        "tries at most",
        "latency at most",
        "load at most",
    ];
    let mut rows = vec![title.map(str::to_owned)];
    for (number, hop) in (1..).zip(&chain.hops) {
        for (at, route) in hop.routes.iter().enumerate() {
            let (number, caller) = if at == 0 {
                (format!("{number}"), hop.caller.clone())
            } else {
                (String::new(), String::new())
            };
            rows.push([
                number,
                caller,
                route.upstream.clone(),
                route.name.clone(),
                route.worst.tries.to_string(),
                units::format_duration(route.worst.latency),
                load(route.load),
            ]);
        }
    }
    table(out, &rows, 4, paint);
}

fn end(out: &mut String, chain: &Chain, paint: Paint) {
    let each = |of: fn(&Hop) -> String| chain.hops.iter().map(of).collect::<Vec<_>>().join(" x ");
    let tries = each(|hop| hop.tries().to_string());
    let factors = each(|hop| rounded(hop.load().factor));
    let title = [
        "at the end of the chain",
        "one call becomes",
        "all calls become",
        "if",
    ];
    let rows = [
        title.map(str::to_owned),
        [
            "every hop retries".to_owned(),
            format!("{tries} = {}", chain.worst()),
            format!("{factors} = {}", load(chain.load())),
            "always: budgets need nobody's help".to_owned(),
        ],
        [
            "one hop retries".to_owned(),
            chain.worst_of_one().to_string(),
            load(chain.load_of_one()),
            coordination(chain),
        ],
    ];
    table(out, &rows, 1, paint);
}

/// What has to hold for one hop only to retry.
fn coordination(chain: &Chain) -> String {
    let deaf = chain.hops.iter().filter(|hop| !hop.tells);
    let deaf: Vec<&str> = deaf.map(|hop| hop.caller.as_str()).collect();
    if deaf.is_empty() {
        "every service passes `retry-attempt` on and `outrider-no-retry` back".to_owned()
    } else {
        format!("never: `hops.retry` is off at {}", deaf.join(", "))
    }
}

/// `1.2` with two digits at most.
fn rounded(factor: f64) -> String {
    ((factor * 100.0).round() / 100.0).to_string()
}

/// `1.73x + 36.4/s`
fn load(load: Load) -> String {
    let factor = rounded(load.factor);
    if load.extra_per_s > 0.0 {
        let extra = (load.extra_per_s * 10.0).round() / 10.0;
        format!("{factor}x + {extra}/s")
    } else {
        format!("{factor}x")
    }
}

/// Columns two apart, those from `right` on aligned to the right, but not the last of a row of words.
fn table<const N: usize>(out: &mut String, rows: &[[String; N]], right: usize, paint: Paint) {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                _ if column + 1 == N && right == 1 => cell.clone(),
                _ if column >= right => format!("{cell:>width$}"),
                _ => format!("{cell:width$}"),
            })
            .collect();
        let line = cells.join("  ");
        let line = line.trim_end();
        let _ = writeln!(
            out,
            "{}",
            if number == 0 {
                paint.dim(line)
            } else {
                line.to_owned()
            }
        );
    }
}
