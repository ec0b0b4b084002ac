//! How much of a traffic the cache answers, beside bare caches of the same budget; and what memory a whole outrider takes
//! under the same traffic.

mod process;
mod stores;
mod traffic;

use std::process::ExitCode;

use stores::Contender;
use traffic::Traffic;

/// The budget, of all of them.
const BUDGET: u64 = 64 << 20;
/// Requests that fill the caches, and those that are counted.
const WARM_UP: usize = 1_000_000;
const COUNTED: usize = 2_000_000;
/// Points of a hundred that the cache may stand behind the best.
const HIT_RATIO_BAR: f64 = 2.0;
/// What the process may take over its memory at rest, as a multiple of the budget.
const RSS_BAR: f64 = 1.2;
const SEED: u64 = 0x5eed_0dd5;

const USAGE: &str = "usage: hitratio [--binary OUTRIDER [--requests N] [--memory-only]] [--bars]";

struct Order {
    binary: Option<String>,
    requests: usize,
    memory_only: bool,
    judged: bool,
}

fn order() -> Option<Order> {
    let mut order = Order {
        binary: None,
        requests: 1_000_000,
        memory_only: false,
        judged: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--binary" => order.binary = Some(words.next()?),
            "--requests" => order.requests = words.next()?.parse().ok()?,
            "--memory-only" => order.memory_only = true,
            "--bars" => order.judged = true,
            _ => return None,
        }
    }
    // Memory is that of a binary.
    (order.binary.is_some() || !order.memory_only).then_some(order)
}

fn main() -> ExitCode {
    let Some(order) = order() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!(
        "{} keys, a tenth of the requests a scan, bodies about {} bytes on average; {} MiB",
        traffic::KEYS,
        Traffic::new(1.0, SEED).mean_size(),
        BUDGET >> 20,
    );
    let mut met = true;
    let exponents = [0.8, 1.0].iter().filter(|_| !order.memory_only);
    for exponent in exponents {
        met &= compare(*exponent);
    }
    if let Some(binary) = &order.binary {
        met &= match process::measure(binary, order.requests, SEED) {
            Ok(memory) => memory.tell(RSS_BAR),
            Err(error) => {
                eprintln!("hitratio: {error}");
                false
            }
        };
    }
    if order.judged && !met {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// One table; false if the cache is too far behind.
fn compare(exponent: f64) -> bool {
    println!("\nzipf s = {exponent}         hits");
    let (mut best, mut ours) = (0.0_f64, 0.0);
    for (name, make) in stores::ALL {
        let ratio = 100.0 * ratio(&mut *make(BUDGET), exponent);
        println!("{name:20} {ratio:6.2} %");
        if *name == stores::OURS {
            ours = ratio;
        } else {
            best = best.max(ratio);
        }
    }
    let behind = best - ours;
    let met = behind <= HIT_RATIO_BAR;
    let word = if met { "met" } else { "not met" };
    println!("bar: at most {HIT_RATIO_BAR} points behind the best: {behind:.2}: {word}");
    met
}

fn ratio(contender: &mut dyn Contender, exponent: f64) -> f64 {
    let mut traffic = Traffic::new(exponent, SEED);
    for _ in 0..WARM_UP {
        contender.ask(traffic.next());
    }
    let hits = (0..COUNTED)
        .filter(|_| contender.ask(traffic.next()))
        .count();
    hits as f64 / COUNTED as f64
}
