//! Whatever is done to a log afterwards is found.

use super::*;
use crate::kit::walk::Draws;

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.split_inclusive('\n').map(str::to_owned).collect()
}

#[test]
fn an_untouched_log_holds() {
    let desk = Desk::new();
    let mut log = desk.open();
    write(&mut log, 0, 20);
    sign(&mut log);
    write(&mut log, 20, 25);
    let report = desk.verify();
    assert_eq!(words(&report), [""; 0], "{:?}", report.findings);
    assert_eq!(
        (report.records, report.signed, report.signed_to),
        (26, 1, 21)
    );
    assert_eq!(report.head, Some((log.head.seq, log.head.hash)));
    assert_eq!(log.checkpoint().map(|event| event.what), Some("checkpoint"));
}

#[test]
fn each_kind_of_harm_has_its_word() {
    let desk = Desk::new();
    let mut log = desk.open();
    write(&mut log, 0, 6);
    sign(&mut log);
    let sound = lines(desk.file());
    let try_out = |change: &dyn Fn(&mut Vec<String>), wanted: &[&str]| {
        let mut lines = sound.clone();
        change(&mut lines);
        fs::write(desk.file(), lines.concat()).unwrap();
        let report = desk.verify();
        assert_eq!(words(&report), wanted, "{:?}", report.findings);
    };
    try_out(
        &|lines| lines[2] = lines[2].replace("pay", "pax"),
        &["changed"],
    );
    try_out(&|lines| drop(lines.remove(2)), &["removed"]);
    try_out(&|lines| drop(lines.remove(0)), &["removed"]);
    try_out(&|lines| lines.swap(2, 3), &["removed", "moved", "removed"]);
    try_out(&|lines| lines.insert(3, lines[2].clone()), &["moved"]);
    try_out(&|lines| lines.truncate(4), &["truncated", "forged"]);
    try_out(
        &|lines| assert_eq!(lines[6].pop(), Some('\n')),
        &["truncated", "truncated", "forged"],
    );
    try_out(&|lines| lines[1].insert(0, ' '), &["changed", "removed"]);
    try_out(&|lines| lines.clear(), &["truncated"]);
}

#[test]
fn who_writes_the_rest_of_the_chain_anew_has_no_key() {
    let desk = Desk::new();
    let mut log = desk.open();
    write(&mut log, 0, 3);
    sign(&mut log);
    write(&mut log, 3, 5);
    sign(&mut log);
    let good = log.head;
    // Everything from the second record on is written again, with a key of the attacker's own.
    let other = Desk::new();
    let mut forged = other.open();
    write(&mut forged, 0, 1);
    write(&mut forged, 7, 9);
    sign(&mut forged);
    write(&mut forged, 3, 5);
    sign(&mut forged);
    fs::copy(other.file(), desk.file()).unwrap();
    fs::copy(log::head_path(other.file()), log::head_path(desk.file())).unwrap();
    assert_eq!(words(&desk.verify()), ["forged", "forged", "forged"]);
    // Without the key nobody can tell, but who has noted the end of the chain can.
    let known = Known {
        expect: vec![(good.seq, good.hash)],
        ..Known::default()
    };
    assert_eq!(words(&desk.verify_with(&known)), ["replaced"]);
    assert_eq!(words(&desk.verify_with(&Known::default())), [""; 0]);
}

#[test]
fn a_cut_tail_is_found_by_the_note_or_by_what_is_expected() {
    let desk = Desk::new();
    let mut log = desk.open();
    write(&mut log, 0, 5);
    let end = log.head;
    let mut sound = lines(desk.file());
    sound.truncate(3);
    fs::write(desk.file(), sound.concat()).unwrap();
    let known = Known::default();
    assert_eq!(words(&desk.verify_with(&known)), ["truncated"]);
    fs::remove_file(log::head_path(desk.file())).unwrap();
    assert_eq!(
        words(&desk.verify_with(&known)),
        ["truncated"],
        "no note is a finding"
    );
    let open = Known {
        open_ended: true,
        ..Known::default()
    };
    assert_eq!(words(&desk.verify_with(&open)), [""; 0], "as was asked for");
    let expecting = Known {
        expect: vec![(end.seq, end.hash)],
        ..Known::default()
    };
    assert_eq!(words(&desk.verify_with(&expecting)), ["truncated"]);
}

/// A log of several files, each as it was.
struct Original {
    desk: Desk,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Original {
    fn new() -> Self {
        let mut desk = Desk::new();
        desk.settings.rotate = 4096;
        let mut log = desk.open();
        for nth in 0..40 {
            if log.is_full(NOW) {
                let rotated = log.rotate(NOW).unwrap();
                log.append(&[stamped(rotated)]).unwrap();
            }
            write(&mut log, nth, nth + 1);
            if nth % 10 == 9 {
                sign(&mut log);
            }
        }
        let files = files_of(std::slice::from_ref(&desk.settings.file));
        assert!(files.len() >= 3, "{files:?}");
        let files = files.into_iter().map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        });
        Self {
            files: files.collect(),
            desk,
        }
    }

    /// Writes a changed log, has it read, and puts it back.
    fn is_found(&self, changed: &[Vec<u8>]) -> bool {
        let dirty: Vec<usize> = (0..changed.len())
            .filter(|at| changed[*at] != self.files[*at].1)
            .collect();
        for at in &dirty {
            fs::write(&self.files[*at].0, &changed[*at]).unwrap();
        }
        let report = self.desk.verify();
        for at in &dirty {
            fs::write(&self.files[*at].0, &self.files[*at].1).unwrap();
        }
        report.found > 0
    }

    fn bytes(&self) -> Vec<Vec<u8>> {
        self.files.iter().map(|(_, bytes)| bytes.clone()).collect()
    }
}

fn change_a_byte(draws: &mut Draws, files: &mut [Vec<u8>]) {
    let file = &mut files[draws.below(3) as usize];
    let at = draws.below(file.len() as u64) as usize;
    file[at] ^= 1 << draws.below(8);
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

fn delete_lines(draws: &mut Draws, files: &mut [Vec<u8>]) {
    let file = &mut files[draws.below(3) as usize];
    let mut lines = split(file);
    let at = draws.below(lines.len() as u64) as usize;
    let count = 1 + draws.below(3) as usize;
    lines.drain(at..(at + count).min(lines.len()));
    *file = lines.concat();
}

fn swap_lines(draws: &mut Draws, files: &mut [Vec<u8>]) {
    let file = &mut files[draws.below(3) as usize];
    let mut lines = split(file);
    let one = draws.below(lines.len() as u64) as usize;
    let other = (one + 1 + draws.below(lines.len() as u64 - 1) as usize) % lines.len();
    lines.swap(one, other);
    *file = lines.concat();
}

fn cut_the_tail(draws: &mut Draws, files: &mut [Vec<u8>]) {
    let last = files.last_mut().unwrap();
    let keep = draws.below(last.len() as u64) as usize;
    last.truncate(keep);
}

#[test]
fn a_thousand_random_harms_are_all_found() {
    let original = Original::new();
    assert_eq!(
        original.desk.verify().found,
        0,
        "{:?}",
        original.desk.verify().findings
    );
    let mut draws = Draws::new(0x00a0_d170);
    let kinds: [(&str, fn(&mut Draws, &mut [Vec<u8>])); 4] = [
        ("change", change_a_byte),
        ("deletion", delete_lines),
        ("swap", swap_lines),
        ("tail cut", cut_the_tail),
    ];
    for round in 0..250 {
        for (kind, harm) in kinds {
            let mut files = original.bytes();
            let count = files.len();
            // The three oldest and the newest are as good as any.
            files.rotate_left(if kind == "tail cut" {
                0
            } else {
                round % (count - 2)
            });
            harm(&mut draws, &mut files);
            files.rotate_right(if kind == "tail cut" {
                0
            } else {
                round % (count - 2)
            });
            assert!(
                original.is_found(&files),
                "round {round}: a {kind} was not found"
            );
        }
    }
}

#[test]
fn a_whole_file_that_is_gone_is_found() {
    let original = Original::new();
    for (path, bytes) in &original.files[..original.files.len() - 1] {
        fs::remove_file(path).unwrap();
        let report = original.desk.verify();
        assert!(
            words(&report).contains(&"removed"),
            "{path:?}: {:?}",
            report.findings
        );
        fs::write(path, bytes).unwrap();
    }
    fs::write(original.desk.file(), "").unwrap();
    assert_eq!(words(&original.desk.verify()), ["truncated"]);
}
