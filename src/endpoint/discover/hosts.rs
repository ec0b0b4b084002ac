//! The hosts file (hosts(5)): what the operator of a pod or container wrote by hand goes before any server.

use std::net::IpAddr;

/// The addresses that the text of a hosts file gives to `name` (no trailing dot; case does not matter).
pub fn addresses(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    lines
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            // An address with a zone (`fe80::1%lo0`) means nothing on another interface, and is left out.
            let address = words.next()?.parse().ok()?;
            words
                .any(|word| word.eq_ignore_ascii_case(name))
                .then_some(address)
        })
        .collect()
}
