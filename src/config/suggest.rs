//! What was meant: the nearest known word, and the words other systems use for our keys.

/// Keys that people bring along from elsewhere, and ours.
const FOREIGN: &[(&str, &str)] = &[
    ("attempts", "max"),
    ("backOff", "backoff"),
    ("baseEjectionTime", "base"),
    ("circuitBreaker", "breaker"),
    ("circuit_breaker", "breaker"),
    ("circuitbreaker", "breaker"),
    ("concurrency", "bulkhead"),
    ("connectTimeout", "connect"),
    ("consecutive5xxErrors", "consecutive"),
    ("consistentHash", "hash"),
    ("consistent_hash", "hash"),
    ("deadline", "timeout"),
    ("failureRateThreshold", "failures"),
    ("failureThreshold", "failures"),
    ("hash-balance-factor", "bound"),
    ("hashBalanceFactor", "bound"),
    ("hash_balance_factor", "bound"),
    ("healthy_panic_threshold", "panic"),
    ("host", "upstream"),
    ("interval", "over"),
    ("lbPolicy", "balance"),
    ("lb_policy", "balance"),
    ("loadBalancer", "balance"),
    ("load_balancer", "balance"),
    ("locality", "zone"),
    ("maxAttempts", "max"),
    ("maxEjectionPercent", "max_share"),
    ("max_attempts", "max"),
    ("max_retries", "max"),
    ("minimumNumberOfCalls", "min_calls"),
    ("numRetries", "max"),
    ("num_retries", "max"),
    ("outlierDetection", "eject"),
    ("outlier_detection", "eject"),
    ("panic_threshold", "panic"),
    ("path", "match"),
    ("perTryTimeout", "try"),
    ("per_try", "try"),
    ("per_try_timeout", "try"),
    ("profile", "use"),
    ("rateLimit", "limit"),
    ("rate_limit", "limit"),
    ("retries", "retry"),
    ("retryOn", "when"),
    ("retry_on", "when"),
    ("slowStart", "slow_start"),
    ("slowstart", "slow_start"),
    ("targets", "endpoints"),
    ("threshold", "failures"),
    ("waitDurationInOpenState", "open"),
    ("warmup", "slow_start"),
    ("window", "over"),
];

/// The nearest of `known` if it is near enough to have been meant: at most a third of the letters differ.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(far, candidate)| *far <= limit && *far < candidate.chars().count())
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Our word for a key of another system, if `known` has it.
pub(crate) fn foreign<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let ours = FOREIGN.iter().find(|(theirs, _)| *theirs == word)?.1;
    known.into_iter().find(|key| *key == ours)
}

/// Edits between two words, a swap of neighbours counting as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let change = above[j] + usize::from(x != y);
            let mut best = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = above;
        above = row;
    }
    above[b.len()]
}
