//! Did-you-mean.

use super::super::suggest::foreign;
use super::super::suggest::nearest;
use super::faults;

#[test]
fn near_words_are_found_and_far_ones_are_not() {
    let keys = ["timeout", "retry", "breaker", "budget"];
    assert_eq!(nearest("timout", keys), Some("timeout"));
    assert_eq!(nearest("budjet", keys), Some("budget"));
    assert_eq!(
        nearest("brekaer", keys),
        Some("breaker"),
        "a swap is one edit"
    );
    assert_eq!(nearest("Retry", keys), Some("retry"));
    assert_eq!(nearest("foo", keys), None);
    assert_eq!(nearest("x", ["y"]), None, "a whole word changed is no slip");
    assert_eq!(nearest("", keys), None);
}

#[test]
fn words_of_other_systems_are_known_where_ours_fits() {
    assert_eq!(foreign("perTryTimeout", ["total", "try"]), Some("try"));
    assert_eq!(foreign("perTryTimeout", ["total"]), None);
}

#[test]
fn every_key_of_a_block_is_found_with_one_letter_missing() {
    use super::super::spec::upstream::UPSTREAM;
    for key in UPSTREAM
        .keys
        .iter()
        .filter(|key| key.name.len() > 4 && key.name != "upstream")
    {
        let slip = format!("{}{}", &key.name[..2], &key.name[3..]);
        let all = faults(&format!("upstream: a.b\n{slip}: x\n"));
        let hint = all
            .first()
            .and_then(|fault| fault.hint.clone())
            .unwrap_or_default();
        assert!(hint.contains(&format!("`{}`", key.name)), "{slip}: {all:?}");
    }
}
