//! Files, directories, ConfigMaps.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use super::super::Fault;
use super::super::Surroundings;
use super::super::dom;
use super::super::fingerprint;
use super::super::load;
use super::super::load_with;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("can be made");
        fs::write(path, text).expect("can be written");
    }
    directory
}

fn refused(path: &Path) -> Vec<Fault> {
    load(&[path.to_path_buf()]).expect_err("is refused")
}

#[test]
fn a_directory_merges_in_name_order() {
    let files = [
        (
            "20-shop.yaml",
            "upstreams: [{ upstream: a.b }]\nservice: two\n",
        ),
        (
            "10-base.yaml",
            "defaults: { timeout: 3s }\nservice: one\nlisten: { admin: off }\n",
        ),
        ("30-one.yml", "upstream: c.d\n"),
        ("notes.txt", "not YAML: ["),
        (".hidden.yaml", "not YAML: ["),
        ("..data/x.yaml", "not YAML: ["),
        ("sub/x.yaml", "not YAML: ["),
    ];
    let directory = directory(&files);
    let loaded = load(&[directory.path().to_path_buf()]).expect("loads");
    let names: Vec<&str> = loaded
        .policy
        .upstreams
        .iter()
        .map(|upstream| upstream.name.as_str())
        .collect();
    assert_eq!(names, ["a.b", "c.d"]);
    assert_eq!(loaded.policy.service, "two", "a later file wins");
    assert!(loaded.policy.listen.admin.is_none());
    assert_eq!(loaded.policy.sources.len(), 3);
    let base = &loaded.effective.find(Some(0), "*").expect("listed").values;
    let total = base
        .iter()
        .find(|effect| effect.path == "timeout.total")
        .expect("listed");
    assert_eq!(
        total.origin,
        format!(
            "{} defaults:1",
            directory.path().join("10-base.yaml").display()
        )
    );
}

#[test]
fn a_config_map_mount_is_read_through_its_links() {
    let mount = directory(&[("..2026_01/outrider.yaml", "upstream: a.b\n")]);
    std::os::unix::fs::symlink("..2026_01", mount.path().join("..data")).expect("can be linked");
    std::os::unix::fs::symlink("..data/outrider.yaml", mount.path().join("outrider.yaml"))
        .expect("can be linked");
    assert_eq!(
        load(&[mount.path().to_path_buf()])
            .expect("loads")
            .policy
            .upstreams
            .len(),
        1
    );
}

#[test]
fn what_cannot_be_read_is_told_beside_other_faults() {
    let files = directory(&[("bad.yaml", "upstream: a.b\ntimout: 2s\n")]);
    let sources = [
        PathBuf::from("/nowhere/x.yaml"),
        files.path().join("bad.yaml"),
    ];
    let codes: Vec<&str> = load(&sources)
        .expect_err("refused")
        .iter()
        .map(|fault| fault.code)
        .collect();
    assert_eq!(codes, ["OR001", "OR012"]);
    assert_eq!(load(&[]).expect_err("refused")[0].code, "OR008");
    let empty = directory(&[]);
    assert_eq!(refused(empty.path())[0].code, "OR008");
}

#[test]
fn a_file_above_the_bound_is_refused_unread() {
    let long = "#".repeat(usize::try_from(dom::MAX_BYTES).expect("fits"));
    let files = directory(&[
        ("fits.yaml", &format!("upstream: a.b\n{}", &long[14..])),
        ("large.yaml", &format!("upstream: a.b\n{long}")),
    ]);
    assert!(load(&[files.path().join("fits.yaml")]).is_ok());
    let faults = refused(&files.path().join("large.yaml"));
    assert_eq!(
        (faults.len(), faults[0].code, faults[0].line),
        (1, "OR002", 0)
    );
    let text = format!("upstream: a.b\n{long}");
    assert_eq!(
        super::super::parse("p.yaml", &text).expect_err("refused")[0].code,
        "OR002"
    );
}

#[test]
fn places_in_a_config_map_are_places_of_the_outer_file() {
    let literal = "kind: ConfigMap\ndata:\n  a.yaml: |\n\n    # a comment\n    upstream: a.b\n    timeout: 2\n";
    let faults = super::super::parse("cm.yaml", literal).expect_err("refused");
    assert_eq!((faults[0].line, faults[0].column), (7, 14));
    assert!(faults[0].snippet.contains("     7 |     timeout: 2\n"));
    let indicated = "kind: ConfigMap\ndata:\n  a.yaml: |2-\n    upstream: a.b\n    timeout: 2\n";
    let faults = super::super::parse("cm.yaml", indicated).expect_err("refused");
    assert_eq!(
        (faults[0].line, faults[0].column),
        (5, 14),
        "the text keeps two of its spaces"
    );
    let quoted = "kind: ConfigMap\ndata:\n  a.yaml: \"upstream: a.b\\ntimeout: 2\\n\"\n";
    let faults = super::super::parse("cm.yaml", quoted).expect_err("refused");
    assert_eq!(
        (faults[0].line, faults[0].column),
        (3, 11),
        "lines are lost, so the value is shown"
    );
}

#[test]
fn a_config_map_may_hold_several_policies() {
    let text = "kind: ConfigMap\ndata:\n  a.yaml: |\n    upstream: a.b\n  b.yml: |\n    upstream: c.d\n  other: x\n";
    assert_eq!(
        super::super::parse("cm.yaml", text)
            .expect("loads")
            .policy
            .upstreams
            .len(),
        2
    );
}

#[test]
fn the_revision_names_the_text_and_nothing_else() {
    let one = directory(&[("a.yaml", "upstream: a.b\n")]);
    let two = directory(&[("z.yaml", "upstream: a.b\n")]);
    let revision = |directory: &tempfile::TempDir| {
        load(&[directory.path().to_path_buf()])
            .expect("loads")
            .policy
            .revision
    };
    assert_eq!(revision(&one), revision(&two));
    assert_eq!(revision(&one).len(), 16);
    assert_eq!(
        fingerprint(&[one.path().to_path_buf()]),
        Some(revision(&one)),
        "the watch compares with it"
    );
    let before = revision(&one);
    fs::write(one.path().join("a.yaml"), "upstream: a.c\n").expect("can be written");
    assert_ne!(before, revision(&one));
    assert_eq!(
        super::super::parse("p", "upstream: a.b\n")
            .expect("loads")
            .policy
            .revision,
        before
    );
}

#[test]
fn service_and_zone_come_from_the_policy_then_from_outside() {
    let around = Surroundings {
        service: Some("outside".to_owned()),
        zone: Some("eu-1b".to_owned()),
        spiffe: None,
    };
    let files = directory(&[
        ("own.yaml", "upstream: a.b\nservice: own\nzone: eu-1a\n"),
        ("none.yaml", "upstream: a.b\n"),
    ]);
    let names = |file: &str, around: &Surroundings| {
        let loaded = load_with(&[files.path().join(file)], around).expect("loads");
        let zone = loaded.policy.zone.as_deref().unwrap_or("-").to_owned();
        (loaded.policy.service, zone)
    };
    let are = |service: &str, zone: &str| (service.to_owned(), zone.to_owned());
    assert_eq!(names("own.yaml", &around), are("own", "eu-1a"));
    assert_eq!(names("none.yaml", &around), are("outside", "eu-1b"));
    assert_eq!(
        names("none.yaml", &Surroundings::default()),
        are("unknown_service", "-")
    );
}
