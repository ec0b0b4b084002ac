//! The token that orders carry.
//!
//! It is read anew for each order, so that a rotated file holds at once, and compared by digest, so that how long it takes
//! tells nothing of how much was right.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use http::HeaderMap;
use http::StatusCode;
use http::header;
use zeroize::Zeroizing;

use super::Declined;

/// The shortest token that is taken for one: what is shorter can be guessed through a port that answers in a millisecond.
const TOKEN_MIN: usize = 16;
/// The longest file that is read.
const TOKEN_MAX: u64 = 4096;

/// Where the token is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In a file, of which the white space around is left off.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
}

/// Whether an order with these fields may be given.
///
/// # Errors
/// 401 without the right token, 503 where there is none to compare with: nobody may give orders then.
pub(super) fn check(place: &TokenPlace, headers: &HeaderMap) -> Result<(), Declined> {
    let given = bearer(headers)
        .ok_or_else(|| unauthorised("Orders need `Authorization: Bearer TOKEN`."))?;
    let token = read(place).map_err(|why| {
        tracing::error!(%why, "the admin token cannot be read, so no order is taken");
        Declined::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The admin token cannot be read, so no order is taken; the log says why.",
        )
    })?;
    let hash = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
    verify_slices_are_equal(hash(&token).as_ref(), hash(given).as_ref())
        .map_err(|_unequal| unauthorised("The token is not the right one."))
}

fn unauthorised(detail: &str) -> Declined {
    Declined::new(StatusCode::UNAUTHORIZED, detail)
}

/// RFC 6750 section 2.1, once.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.as_bytes(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

fn read(place: &TokenPlace) -> Result<Zeroizing<Vec<u8>>, String> {
    let whole = Zeroizing::new(match place {
        TokenPlace::Env(name) => std::env::var(name)
            .map_err(|error| format!("{name}: {error}"))?
            .into_bytes(),
        TokenPlace::File(path) => {
            let told = |error: std::io::Error| format!("{}: {error}", path.display());
            // Opening anything else, such as a pipe, could wait for ever.
            if !path.metadata().map_err(told)?.is_file() {
                return Err(format!("{} is not a file", path.display()));
            }
            let mut bytes = Vec::new();
            let file = File::open(path).map_err(told)?;
            file.take(TOKEN_MAX).read_to_end(&mut bytes).map_err(told)?;
            bytes
        }
    });
    let token = Zeroizing::new(whole.trim_ascii().to_vec());
    if token.len() < TOKEN_MIN {
        return Err(format!(
            "it is shorter than {TOKEN_MIN} bytes, which can be guessed"
        ));
    }
    Ok(token)
}
