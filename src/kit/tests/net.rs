//! Networks: what is inside, what is not, and what is a slip.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use super::super::net::Net;
use super::super::walk;

fn inside(net: &str, address: &str) -> bool {
    let address: IpAddr = address.parse().expect("a test's address");
    Net::parse(net).expect("a test's network").contains(address)
}

#[test]
fn a_network_holds_what_shares_its_prefix() {
    for (net, address, expected) in [
        ("10.0.0.0/8", "10.255.255.255", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.0.0.0/8", "::ffff:10.0.0.1", true),
        ("10.0.0.0/8", "fd00::1", false),
        ("192.168.7.1", "192.168.7.1", true),
        ("192.168.7.1", "192.168.7.2", false),
        ("192.168.7.1/32", "192.168.7.1", true),
        ("0.0.0.0/0", "255.1.2.3", true),
        ("0.0.0.0/0", "::1", false),
        ("fd00::/8", "fdff::1", true),
        ("fd00::/8", "fe00::1", false),
        ("::/0", "2001:db8::1", true),
        ("::1", "::1", true),
    ] {
        assert_eq!(inside(net, address), expected, "{address} in {net}");
    }
}

#[test]
fn a_slip_is_refused() {
    for text in [
        "",
        "10.0.0.0/",
        "10.0.0.0/33",
        "fd00::/129",
        "10.0.0/8",
        "/8",
        "10.1.2.3/8",
        "fd00::1/8",
        "10.0.0.0/8/8",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "localhost",
    ] {
        assert!(Net::parse(text).is_err(), "{text}");
    }
    let fault = Net::parse("10.1.2.3/8").expect_err("bits beyond");
    assert_eq!(
        fault.hint.as_deref(),
        Some("did you mean `10.0.0.0/8` or `10.1.2.3`?")
    );
    assert!(Net::parse("::/0").is_ok_and(|net| net.is_everything()));
    assert!(!Net::parse("::").is_ok_and(|net| net.is_everything()));
}

/// Against the same said bit by bit.
#[test]
fn walk_a_network_compares_exactly_its_prefix() {
    walk::seeds(|draws| {
        let (a, bits) = (draws.bits() as u32, draws.below(33) as u32);
        // Near the edge as often as far from it.
        let b = a ^ (1u32.checked_shl(draws.below(33) as u32).unwrap_or(0));
        let same = bits == 0 || (a ^ b) >> (32 - bits) == 0;
        let base = if bits == 0 {
            0
        } else {
            a >> (32 - bits) << (32 - bits)
        };
        let net = Net::parse(&format!("{}/{bits}", Ipv4Addr::from(base))).expect("no bit beyond");
        assert_eq!(net.contains(Ipv4Addr::from(b).into()), same, "{net} {b:x}");
        let wide = |low: u32| Ipv6Addr::from(u128::from(low) << 96);
        let net = Net::parse(&format!("{}/{bits}", wide(base))).expect("no bit beyond");
        assert_eq!(net.contains(wide(b).into()), same, "{net} {b:x}");
    });
}
