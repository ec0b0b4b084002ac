//! The watch: changes of content are told, other events are not, and dropping it ends it.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::super::fingerprint;
use super::super::watch::Pace;
use super::super::watch::Watcher;
use super::super::watch::watch_at;

/// Longer than any machine takes; only ever waited for in full when the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn watched(path: &Path, poll: Duration) -> (Watcher, Receiver<()>) {
    let sources = vec![path.to_path_buf()];
    let loaded = fingerprint(&sources).expect("readable");
    let (told, heard) = mpsc::channel();
    let pace = Pace {
        debounce: Duration::from_millis(5),
        poll,
    };
    let watcher = watch_at(pace, sources, loaded, move || tell(&told));
    (watcher, heard)
}

fn tell(told: &Sender<()>) {
    // The receiver may be gone at the end of a test.
    let _ = told.send(());
}

#[test]
fn a_rename_over_the_file_is_told() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("outrider.yaml");
    fs::write(&file, "upstream: a.b\n").expect("can be written");
    let (watcher, heard) = watched(&file, PATIENCE * 2);
    for host in ["c.d", "e.f"] {
        let next = directory.path().join("next");
        fs::write(&next, format!("upstream: {host}\n")).expect("can be written");
        fs::rename(&next, &file).expect("can be renamed");
        assert!(heard.recv_timeout(PATIENCE).is_ok(), "{host}");
    }
    drop(watcher);
    assert!(
        heard.try_recv().is_err(),
        "told once for each change, and the sender has ended with the watch"
    );
}

#[test]
fn the_swap_of_a_config_map_is_told() {
    let mount = tempfile::tempdir().expect("a temporary directory");
    let version = |name: &str, text: &str| {
        fs::create_dir(mount.path().join(name)).expect("can be made");
        fs::write(mount.path().join(name).join("outrider.yaml"), text).expect("can be written");
        let link = mount.path().join("..data_tmp");
        std::os::unix::fs::symlink(name, &link).expect("can be linked");
        fs::rename(link, mount.path().join("..data")).expect("can be renamed");
    };
    version("..1", "upstream: a.b\n");
    std::os::unix::fs::symlink("..data/outrider.yaml", mount.path().join("outrider.yaml"))
        .expect("can be linked");
    let (_watcher, heard) = watched(mount.path(), PATIENCE * 2);
    version("..2", "upstream: c.d\n");
    assert!(heard.recv_timeout(PATIENCE).is_ok());
}

#[test]
fn a_change_without_an_event_is_found_by_looking() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("outrider.yaml");
    // The link's directory is watched; the file that changes lies elsewhere, as on a network mount.
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let real = elsewhere.path().join("real.yaml");
    fs::write(&real, "upstream: a.b\n").expect("can be written");
    std::os::unix::fs::symlink(&real, &file).expect("can be linked");
    let (_watcher, heard) = watched(&file, Duration::from_millis(10));
    fs::write(&real, "upstream: c.d\n").expect("can be written");
    assert!(heard.recv_timeout(PATIENCE).is_ok());
}

#[test]
fn a_change_between_load_and_watch_is_not_missed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("outrider.yaml");
    fs::write(&file, "upstream: a.b\n").expect("can be written");
    let (told, heard) = mpsc::channel();
    let pace = Pace {
        debounce: Duration::from_millis(5),
        poll: PATIENCE * 2,
    };
    let _watcher = watch_at(pace, vec![file], "0123456789abcdef".to_owned(), move || {
        tell(&told);
    });
    assert!(heard.recv_timeout(PATIENCE).is_ok());
}

#[test]
fn dropping_it_ends_it_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("outrider.yaml");
    fs::write(&file, "upstream: a.b\n").expect("can be written");
    let (watcher, heard) = watched(&file, PATIENCE * 2);
    drop(watcher);
    // With the thread its callback is gone, and with that the sender.
    assert_eq!(heard.recv(), Err(mpsc::RecvError));
}
