//! What is told of a cache's part in an answer: `Cache-Status` (RFC 9211).

/// Why a request went upstream (section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The cache does not touch such requests.
    Bypass,
    /// The method is for the origin.
    Method,
    /// Nothing is stored for this URL.
    UriMiss,
    /// Something is, but nothing that this request selects.
    VaryMiss,
    /// The request would not be answered from what is stored.
    Request,
    /// What is stored is stale.
    Stale,
    /// Not all of the wanted part is stored.
    Partial,
}

impl Forward {
    /// The token of section 2.2.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Forward::Bypass => "bypass",
            Forward::Method => "method",
            Forward::UriMiss => "uri-miss",
            Forward::VaryMiss => "vary-miss",
            Forward::Request => "request",
            Forward::Stale => "stale",
            Forward::Partial => "partial",
        }
    }
}

/// One cache's member of `Cache-Status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Answered without asking upstream.
    pub hit: bool,
    /// Why it was asked.
    pub forward: Option<Forward>,
    /// What it answered, where that is not the status of the answer itself.
    pub forward_status: Option<u16>,
    /// Seconds of freshness left; below zero if it is stale.
    pub ttl: Option<i64>,
    /// The answer was kept.
    pub stored: bool,
    /// The answer to another request's fetch.
    pub collapsed: bool,
    /// A word of ours: letters, digits, `_`, `-`.
    pub detail: Option<&'static str>,
}

impl Told {
    /// Writes the member, in the order of section 2.
    pub fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(b"outrider");
        if self.hit {
            into.extend_from_slice(b"; hit");
        }
        if let Some(forward) = self.forward.filter(|_| !self.hit) {
            into.extend_from_slice(b"; fwd=");
            into.extend_from_slice(forward.token().as_bytes());
        }
        if let Some(status) = self.forward_status {
            into.extend_from_slice(b"; fwd-status=");
            number(status.into(), into);
        }
        if let Some(ttl) = self.ttl {
            into.extend_from_slice(b"; ttl=");
            number(ttl, into);
        }
        if self.stored {
            into.extend_from_slice(b"; stored");
        }
        if self.collapsed {
            into.extend_from_slice(b"; collapsed");
        }
        if let Some(detail) = self.detail {
            into.extend_from_slice(b"; detail=");
            into.extend_from_slice(detail.as_bytes());
        }
    }
}

/// A number in decimal digits.
pub fn number(n: i64, into: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut left = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if n < 0 {
        into.push(b'-');
    }
    into.extend_from_slice(&digits[at..]);
}
