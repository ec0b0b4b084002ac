mod ids;
mod matrix;
mod renewal;

#[path = "../../tests/support/pki.rs"]
pub mod pki;
