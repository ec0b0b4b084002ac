mod ids;
mod matrix;
mod renewal;

#[path = "../../tests/support/pki.rs"]
#[expect(dead_code, reason = "the black-box tests use the rest of it")]
mod pki;
