//! How it is written, and what becomes of it when things go wrong.

use std::io::Write as _;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::Value;
use serde_json::json;

use super::super::often::KINDS_MAX;
use super::super::often::Often;
use super::super::trail::QUEUE_MAX;
use super::super::trail::Trail;
use super::*;

fn metrics() -> Metrics {
    Metrics {
        written: Counter::default(),
        lost: Counter::default(),
        errors: Counter::default(),
        failing: Gauge::default(),
    }
}

fn values(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn events(path: &Path) -> Vec<String> {
    let all = values(path).into_iter();
    all.map(|value| value["event"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_record_is_one_line_that_says_everything() {
    let desk = Desk::new();
    let mut log = desk.open();
    let event = Event::new("purge")
        .by("jo@example.com")
        .with("url", "http://u:p@h/\n\"x\"")
        .with("n", 1);
    log.append(&[stamped(event)]).unwrap();
    let all = values(desk.file());
    let hash = all[0]["hash"].clone();
    assert_eq!(
        all,
        [json!({
            "seq": 1, "time": "2026-09-21T14:13:20.042Z", "event": "purge", "who": "***", "url": "http://***@h/\n\"x\"", "n": 1,
            "prev": "0".repeat(64), "hash": hash,
        })]
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(desk.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn nothing_that_an_event_says_is_taken_for_the_chain() {
    let desk = Desk::new();
    let mut log = desk.open();
    let hostile = format!(
        "\",\"prev\":\"{}\",\"hash\":\"{}\"}}\n{{\"seq\":9,",
        "0".repeat(64),
        "0".repeat(64)
    );
    let event = Event::new("breaker")
        .by(&hostile)
        .with("x", hostile.as_str());
    log.append(&[stamped(event)]).unwrap();
    log.note().unwrap();
    write(&mut log, 0, 2);
    sign(&mut log);
    assert_eq!(words(&desk.verify()), [""; 0]);
    assert_eq!(values(desk.file())[0]["x"], hostile.as_str());
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let desk = Desk::new();
    write(&mut desk.open(), 0, 3);
    let mut log = desk.open();
    assert_eq!(log.head.seq, 3);
    write(&mut log, 3, 5);
    sign(&mut log);
    assert_eq!(words(&desk.verify()), [""; 0]);
}

#[test]
fn a_torn_line_is_cut_off_and_told() {
    let desk = Desk::new();
    write(&mut desk.open(), 0, 3);
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(desk.file())
        .unwrap();
    file.write_all(b"{\"seq\":4,\"ti").unwrap();
    assert_eq!(words(&desk.verify_with(&Known::default())), ["truncated"]);
    let mut log = desk.open();
    sign(&mut log);
    let report = desk.verify();
    assert_eq!(words(&report), [""; 0]);
    assert_eq!(report.admitted.len(), 1);
    assert_eq!(values(desk.file())[3]["bytes"], 12);
}

#[test]
fn what_cannot_be_gone_on_with_is_set_aside_and_found() {
    let desk = Desk::new();
    write(&mut desk.open(), 0, 3);
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(desk.file())
        .unwrap();
    file.write_all(b"not a record\n").unwrap();
    let log = desk.open();
    assert_eq!(events(desk.file()), ["damaged", "continued"]);
    assert_eq!(log.head.seq, 5, "numbers go on");
    let aside = fs::read_dir(desk.folder.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().contains(".damaged-")
    });
    assert_eq!(aside.count(), 1);
    let report = desk.verify_with(&Known::default());
    assert_eq!(
        words(&report),
        ["changed", "removed"],
        "{:?}",
        report.findings
    );
}

#[test]
fn a_tail_that_was_cut_while_nobody_wrote_is_told_at_the_next_start() {
    let desk = Desk::new();
    write(&mut desk.open(), 0, 5);
    let text = fs::read_to_string(desk.file()).unwrap();
    let kept: String = text.split_inclusive('\n').take(2).collect();
    fs::write(desk.file(), kept).unwrap();
    let mut log = desk.open();
    assert_eq!(events(desk.file()).last().unwrap(), "missing");
    sign(&mut log);
    let report = desk.verify();
    assert_eq!(words(&report), ["removed"]);
    assert!(
        report.findings[0].what.contains("\"from\":3"),
        "{:?}",
        report.findings
    );
}

#[test]
fn files_are_begun_anew_by_size_and_age_and_the_oldest_goes() {
    let mut desk = Desk::new();
    desk.settings.rotate = 4096;
    desk.settings.keep = 2;
    desk.settings.age = Some(Duration::from_secs(10));
    let mut log = desk.open();
    assert!(
        !log.is_full(NOW + Duration::from_secs(100)),
        "an empty one is never full"
    );
    for nth in 0..60 {
        if log.is_full(NOW) {
            let rotated = log.rotate(NOW).unwrap();
            log.append(&[stamped(rotated)]).unwrap();
        }
        write(&mut log, nth, nth + 1);
    }
    assert!(log.is_full(NOW + Duration::from_secs(10)), "of age");
    sign(&mut log);
    let files = files_of(std::slice::from_ref(&desk.settings.file));
    assert_eq!(files.len(), 3);
    assert_eq!(words(&desk.verify()), [""; 0]);
    fs::remove_file(&files[0]).unwrap();
    assert_eq!(
        words(&desk.verify()),
        ["removed"],
        "the log says what is its oldest"
    );
}

#[test]
fn a_start_right_after_a_turn_goes_on_with_the_chain() {
    let mut desk = Desk::new();
    desk.settings.key = None;
    let mut log = desk.open();
    write(&mut log, 0, 3);
    let _ = log.rotate(NOW).unwrap();
    drop(log);
    let mut log = desk.open();
    assert_eq!(events(desk.file()), ["continued"]);
    write(&mut log, 3, 4);
    assert_eq!(words(&desk.verify_with(&Known::default())), [""; 0]);
}

#[test]
fn a_flood_is_told_once_and_counted() {
    let mut often = Often::default();
    assert!(often.admit(event(1)).is_some());
    assert!(often.admit(event(1)).is_none());
    assert!(often.admit(event(1)).is_none());
    assert!(often.admit(event(2)).is_some());
    for nth in 0..1000 {
        let told = often.admit(event(100 + nth)).is_some();
        assert_eq!(told, nth < KINDS_MAX as u64 - 2, "{nth}");
    }
    let told = often.sweep();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], event(1).with("more", 2));
    assert_eq!(
        told[1],
        Event::new("breaker").with("others", 1000 - (KINDS_MAX as u64 - 2))
    );
    assert!(often.sweep().is_empty());
    assert!(often.admit(event(1)).is_some(), "a new interval");
}

#[test]
fn the_thread_writes_in_order_and_says_that_it_stopped() {
    let desk = Desk::new();
    let metrics = metrics();
    let trail = Trail::start(desk.settings.clone(), metrics.clone()).unwrap();
    for nth in 0..100 {
        trail.record(event(nth));
        trail.often(event(1000));
    }
    trail.stop("a test ends");
    trail.record(event(0));
    let all = events(desk.file());
    assert_eq!(all.first().unwrap(), "started");
    assert!(all.contains(&"stopped".to_owned()));
    assert_eq!(all.last().unwrap(), "checkpoint");
    let report = desk.verify();
    assert_eq!(words(&report), [""; 0]);
    // Started, a hundred and one, stopped, the count of what came often, a checkpoint.
    assert_eq!(report.records, 105);
    assert_eq!(metrics.written.get(), 105);
    assert_eq!(metrics.lost.get(), 1, "after the stop");
}

/// A disk that takes nothing: a pipe's end stands where the file should be.
#[test]
fn a_disk_that_takes_nothing_costs_a_count_and_never_a_silence() {
    let desk = Desk::new();
    let metrics = metrics();
    fs::create_dir(desk.file()).unwrap();
    assert!(Trail::start(desk.settings.clone(), metrics.clone()).is_err());
    // /dev/full refuses every byte, and its length cannot be set.
    let settings = Settings {
        file: PathBuf::from("/dev/full"),
        ..desk.settings.clone()
    };
    let trail = Trail::start(settings, metrics.clone()).unwrap();
    for nth in 0..2 * QUEUE_MAX as u64 {
        trail.record(event(nth));
    }
    trail.stop("a test ends");
    assert!(metrics.errors.get() > 0);
    assert_eq!(metrics.failing.get(), 1);
    assert_eq!(metrics.written.get(), 0);
    assert!(metrics.lost.get() >= QUEUE_MAX as u64);
}

#[test]
fn keys_are_read_as_they_are_usually_kept() {
    let desk = Desk::new();
    let path = desk.settings.key.clone().unwrap();
    let fingerprint = PublicKey::read(&path).unwrap().fingerprint();
    assert_eq!(fingerprint.len(), 16);
    let other = desk.folder.path().join("other");
    fs::write(&other, "no key").unwrap();
    assert!(matches!(PublicKey::read(&other), Err(KeyError::NotAKey(_))));
    assert!(matches!(
        PublicKey::read(&desk.folder.path().join("none")),
        Err(KeyError::Read(..))
    ));
    assert_eq!(read_head(desk.file()), None);
}
