//! The identity of a call, decided from bytes and draws.
//!
//! | `traceparent`                          | B3            | trace                                  |
//! |----------------------------------------|---------------|----------------------------------------|
//! | one, valid                             | any           | that of `traceparent`                  |
//! | none, repeated, or invalid             | trace + span  | that of B3, 64 bits padded with zeros  |
//! | none, repeated, or invalid             | decision only | begun, with that decision              |
//! | none, repeated, or invalid             | none, invalid | begun, sampled by share                |
//!
//! Valid after W3C Trace Context: version not `ff`; version `00` exactly 55 characters; a later version is read by its
//! first 55, and a 56th must be a dash; lower-case hexadecimal only; neither identifier all zero. Of the flags,
//! `sampled` and `random` are passed on; the others have no meaning yet and are cleared.

/// Flag bit of `traceparent`: the caller may have recorded the trace.
pub const SAMPLED: u8 = 0x01;

/// Flags that are passed on: `sampled`, and `random` of Trace Context level 2.
const KNOWN_FLAGS: u8 = 0x03;

/// The longest identifier that is kept. Unit: bytes.
pub const IDENTIFIER_MAX: usize = 128;

/// Where a trace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A valid `traceparent` arrived.
    W3c,
    /// Valid B3 fields arrived.
    B3,
    /// None that is valid: it begins here.
    Begun,
}

/// The trace fields of a request, as they arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incoming<'a> {
    /// `traceparent`.
    pub traceparent: Option<&'a [u8]>,
    /// Whether there was more than one `traceparent`: nobody can say which is right, so none is.
    pub repeated: bool,
    /// `b3`.
    pub b3: Option<&'a [u8]>,
    /// `x-b3-traceid`.
    pub b3_trace_id: Option<&'a [u8]>,
    /// `x-b3-spanid`.
    pub b3_span_id: Option<&'a [u8]>,
    /// `x-b3-sampled`.
    pub b3_sampled: Option<&'a [u8]>,
    /// `x-b3-flags`.
    pub b3_flags: Option<&'a [u8]>,
}

/// The trace of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Never all zero.
    pub trace_id: [u8; 16],
    /// The span that the caller sent; none when the trace begins here.
    pub parent: Option<[u8; 8]>,
    /// The span of this call. Never all zero.
    pub span: [u8; 8],
    /// Bit 0 is [`SAMPLED`].
    pub flags: u8,
    /// Where the trace comes from.
    pub origin: Origin,
}

/// Decides the trace of a call. `sample` is the share of traces to mark where the decision is ours.
#[must_use]
pub fn trace(incoming: &Incoming<'_>, draws: [u64; 3], sample: f64) -> Trace {
    let span = span(draws[0]);
    if let Some(value) = incoming.traceparent
        && !incoming.repeated
        && let Some(parent) = parse_traceparent(value)
    {
        return Trace {
            trace_id: parent.trace_id,
            parent: Some(parent.span),
            span,
            flags: parent.flags,
            origin: Origin::W3c,
        };
    }
    let b3 = incoming
        .b3
        .and_then(parse_b3)
        .or_else(|| parse_b3_multi(incoming));
    let (found, decision) = b3.map_or((None, None), |b3| (b3.ids, b3.sampled));
    let (trace_id, parent, origin) = match found {
        Some((trace_id, parent)) => (trace_id, Some(parent), Origin::B3),
        None => (begin(draws[1], draws[2]), None, Origin::Begun),
    };
    let sampled = decision.unwrap_or_else(|| is_in_share(&trace_id, sample));
    Trace {
        trace_id,
        parent,
        span,
        flags: if sampled { SAMPLED } else { 0 },
        origin,
    }
}

/// A span identifier made of a draw; zero is not one.
#[must_use]
pub fn span(draw: u64) -> [u8; 8] {
    // Mixed, because callers give draws whose bits also went into other identifiers.
    let mut bits = (draw ^ (draw >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    bits.max(1).to_be_bytes()
}

fn begin(high: u64, low: u64) -> [u8; 16] {
    let bits = (u128::from(high) << 64) | u128::from(low);
    bits.max(1).to_be_bytes()
}

/// Whether the last 56 bits of a trace, which Trace Context level 2 holds to be random, fall into the share. All who
/// decide by them decide alike.
fn is_in_share(trace_id: &[u8; 16], share: f64) -> bool {
    const RANGE: f64 = (1_u64 << 56) as f64;
    let mut bytes = [0; 8];
    bytes[1..].copy_from_slice(&trace_id[9..]);
    share > 0.0 && u64::from_be_bytes(bytes) as f64 >= (1.0 - share) * RANGE
}

/// `traceparent`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Never all zero.
    pub trace_id: [u8; 16],
    /// Never all zero.
    pub span: [u8; 8],
    /// Known flags only.
    pub flags: u8,
}

/// Reads a `traceparent` as W3C Trace Context section 3.2 wants it; `None` where it is to be ignored.
#[must_use]
pub fn parse_traceparent(value: &[u8]) -> Option<Parent> {
    let (head, rest) = value.split_first_chunk::<55>()?;
    if head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
        return None;
    }
    let [version] = hex(&head[..2])?;
    let ends_well = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.first().is_none_or(|&next| next == b'-'),
    };
    let trace_id: [u8; 16] = hex(&head[3..35])?;
    let span: [u8; 8] = hex(&head[36..52])?;
    let [flags] = hex(&head[53..])?;
    (ends_well && trace_id != [0; 16] && span != [0; 8]).then_some(Parent {
        trace_id,
        span,
        flags: flags & KNOWN_FLAGS,
    })
}

/// What B3 fields said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct B3 {
    /// Trace and parent span; none when only the decision was sent.
    pub ids: Option<([u8; 16], [u8; 8])>,
    /// The decision; none when it is left to the receiver.
    pub sampled: Option<bool>,
}

/// Reads the single field: `trace-span`, `trace-span-state`, `trace-span-state-parent`, or a state alone.
#[must_use]
pub fn parse_b3(value: &[u8]) -> Option<B3> {
    if value.len() == 1 {
        return b3_state(value).map(|sampled| B3 {
            ids: None,
            sampled: Some(sampled),
        });
    }
    let mut parts = value.split(|&byte| byte == b'-');
    let ids = b3_ids(parts.next()?, parts.next()?)?;
    let sampled = match parts.next() {
        None => None,
        Some(state) if state.len() == 1 => Some(b3_state(state)?),
        Some(_) => return None,
    };
    if let Some(parent) = parts.next() {
        hex::<8>(parent)?;
    }
    parts.next().is_none().then_some(B3 {
        ids: Some(ids),
        sampled,
    })
}

fn parse_b3_multi(incoming: &Incoming<'_>) -> Option<B3> {
    let ids = match (incoming.b3_trace_id, incoming.b3_span_id) {
        (Some(trace), Some(span)) => b3_ids(trace, span),
        _ => None,
    };
    let debug = incoming.b3_flags == Some(b"1");
    let sampled = if debug {
        Some(true)
    } else {
        incoming.b3_sampled.and_then(b3_state)
    };
    (ids.is_some() || sampled.is_some()).then_some(B3 { ids, sampled })
}

fn b3_ids(trace: &[u8], span: &[u8]) -> Option<([u8; 16], [u8; 8])> {
    let trace_id = match trace.len() {
        16 => {
            let mut wide = [0; 16];
            wide[8..].copy_from_slice(&hex::<8>(trace)?);
            wide
        }
        _ => hex(trace)?,
    };
    let span: [u8; 8] = hex(span)?;
    (trace_id != [0; 16] && span != [0; 8]).then_some((trace_id, span))
}

/// `true` and `false` are of the time before the specification, and still sent.
fn b3_state(state: &[u8]) -> Option<bool> {
    match state {
        b"1" | b"d" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

/// Whether an identifier that arrived is kept: 1 to [`IDENTIFIER_MAX`] visible ASCII characters. It will stand in logs.
#[must_use]
pub fn is_identifier(value: &[u8]) -> bool {
    (1..=IDENTIFIER_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

/// A UUIDv7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, then 74 of chance.
#[must_use]
pub fn uuid_v7(unix_ms: u64, high: u64, low: u64) -> [u8; 36] {
    let first = (unix_ms << 16) | 0x7000 | (high & 0x0fff);
    let second = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    let bytes = ((u128::from(first) << 64) | u128::from(second)).to_be_bytes();
    let mut text = [b'-'; 36];
    write_hex(&mut text[..8], &bytes[..4]);
    write_hex(&mut text[9..13], &bytes[4..6]);
    write_hex(&mut text[14..18], &bytes[6..8]);
    write_hex(&mut text[19..23], &bytes[8..10]);
    write_hex(&mut text[24..], &bytes[10..]);
    text
}

/// A `traceparent` of version 00.
#[must_use]
pub fn traceparent(trace_id: &[u8; 16], span: &[u8; 8], flags: u8) -> [u8; 55] {
    let mut text = [b'-'; 55];
    text[..2].copy_from_slice(b"00");
    write_hex(&mut text[3..35], trace_id);
    write_hex(&mut text[36..52], span);
    write_hex(&mut text[53..], &[flags]);
    text
}

fn write_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0x0f)];
    }
}

/// No digit of lower-case hexadecimal.
const NONE: u8 = 0xff;

static NIBBLES: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut digit = 0_u8;
    while digit < 16 {
        let at = if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        };
        table[at as usize] = digit;
        digit += 1;
    }
    table
};

/// Exactly `N` bytes in lower-case hexadecimal.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    let mut wrong = 0;
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
        wrong |= high | low;
        *byte = (high << 4) | (low & 0x0f);
    }
    (wrong & 0xf0 == 0).then_some(bytes)
}
