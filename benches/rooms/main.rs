//! What each room costs a call on the path on which nothing happens: see the README beside this file.

#![expect(
    clippy::disallowed_methods,
    reason = "a bench measures time, which is what the rule keeps out of the program"
)]

mod measure;
mod rooms;

use std::process::ExitCode;

use measure::Figure;

/// A room, in nanoseconds a call.
const ROOM_BAR: f64 = 300.0;
/// A hit, which is instead of everything inside; and a call for which the cache has nothing, likewise.
const HIT_BAR: f64 = 1000.0;
const MISS_BAR: f64 = 2000.0;
/// Redaction of all that a line of the access log says, likewise.
const REDACT_BAR: f64 = 2000.0;
/// All of them, likewise.
const ALL_BAR: f64 = 1500.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let judged = args.iter().any(|arg| arg == "--bars");
    let only: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(*part));

    println!("room            ready at once   waits once   of its bar");
    let mut above = 0;
    for (name, measured) in rooms::ALL {
        if !wanted(name) {
            continue;
        }
        let Figure { ready, waits } = measured();
        let bar = match *name {
            rooms::TOGETHER => ALL_BAR,
            rooms::HIT => HIT_BAR,
            rooms::MISS => MISS_BAR,
            "redact" => REDACT_BAR,
            _ => ROOM_BAR,
        };
        let share = 100.0 * ready / bar;
        let told = if ready > bar { "  above it" } else { "" };
        above += i32::from(ready > bar);
        println!("{name:14} {ready:10.0} ns {waits:10.0} ns {share:10.0} %{told}");
    }
    if judged && above > 0 {
        println!("{above} above the bar of {ROOM_BAR} ns a room, {ALL_BAR} ns all together");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
