//! Networks as people write them: an address, or `10.0.0.0/8` (RFC 4632, RFC 4291 section 2.3).

use std::fmt;
use std::net::IpAddr;

use super::units::Unfit;

/// The addresses that share their first `bits` bits with `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    base: IpAddr,
    bits: u8,
}

impl Net {
    /// Parses `10.0.0.0/8`, `fd00::/8`, or one address.
    ///
    /// # Errors
    /// If the text is neither, or if the address has bits beyond the prefix: `10.1.2.3/8` is more likely a slip than meant.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        let unfit = || Unfit::new(format!("`{text}` is not an address or a network"));
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = address
            .parse()
            .map_err(|_| unfit().hint("write `10.0.0.1` or `10.0.0.0/8`"))?;
        let most: u8 = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(digits) => digits
                .parse::<u8>()
                .ok()
                // A sign parses too, but nobody writes one.
                .filter(|bits| *bits <= most && digits.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| unfit().hint(format!("a prefix has 0 to {most} bits")))?,
        };
        let net = Self {
            base: masked(base, bits),
            bits,
        };
        if net.base == base {
            Ok(net)
        } else {
            let message = format!("`{text}` has bits beyond its prefix");
            Err(Unfit::new(message).hint(format!("did you mean `{net}` or `{base}`?")))
        }
    }

    /// Whether `address` is one of it. An IPv4 address inside IPv6 (`::ffff:10.0.0.1`) is taken as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.bits) == self.base
    }

    /// Whether it is every address of its family.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.bits == 0
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    // A shift by the whole width has no value; no bits is no mask.
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}
