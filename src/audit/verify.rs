//! Reads a chain and names whatever does not fit: changed, removed, repeated or moved records, and an end that is missing.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use super::chain;
use super::chain::Digest;
use super::chain::Head;
use super::chain::Read;
use super::key::PublicKey;
use super::log;

/// Findings that are named; the rest is a number.
pub const NAMED_MAX: usize = 100;

/// What is known beside the files.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Where the chain must have been at some time: a sequence number and its hash, noted elsewhere.
    pub expect: Vec<(u64, Digest)>,
    /// Keys of checkpoints. Empty: signatures are not looked at.
    pub keys: Vec<PublicKey>,
    /// Whether the files may end before the chain does: older files, looked at by themselves.
    pub open_ended: bool,
    /// Whether the files may begin after the chain does, though nothing in it says that older ones were let go.
    pub open_begin: bool,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file and the line, from 1; line 0: the log as a whole.
    pub place: (PathBuf, u64),
    /// A stable word.
    pub word: &'static str,
    /// For a person.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line) = &self.place;
        match line {
            0 => write!(f, "{}: {}: {}", file.display(), self.word, self.what),
            line => write!(f, "{}:{line}: {}: {}", file.display(), self.word, self.what),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Records that were read.
    pub records: u64,
    /// The first number that was read.
    pub first: Option<u64>,
    /// Where the chain ends.
    pub head: Option<(u64, Digest)>,
    /// The first hundred.
    pub findings: Vec<Finding>,
    /// All of them.
    pub found: u64,
    /// Checkpoints with a good signature.
    pub signed: u64,
    /// The last record that one of them vouches for.
    pub signed_to: u64,
    /// Checkpoints that were not looked at, because no key was given.
    pub unsigned: u64,
    /// What outrider itself wrote about its log: repairs and losses.
    pub admitted: Vec<String>,
}

/// Reads `files`, oldest first, each with what stands beside it.
///
/// # Errors
/// If one cannot be read.
pub fn verify(files: &[PathBuf], known: &Known) -> io::Result<Report> {
    let mut walk = Walk {
        known,
        report: Report::default(),
        before: None,
        last: None,
        oldest: None,
        place: (files.first().cloned().unwrap_or_default(), 0),
        met: vec![false; known.expect.len()],
        note: None,
    };
    let newest = files.last();
    walk.note = newest.and_then(|newest| log::read_head(newest));
    for file in files {
        walk.file(file)?;
    }
    walk.end(newest);
    Ok(walk.report)
}

/// All files of the logs that are named, oldest first: of `audit.log` also `audit.log.000000000001` and its like.
#[must_use]
pub fn files_of(named: &[PathBuf]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for path in named {
        let older = log::siblings(path).into_iter().map(|(_, older)| older);
        for file in older.chain([path.clone()]) {
            if !all.contains(&file) {
                all.push(file);
            }
        }
    }
    all
}

/// The first record's number, by which files that are named in any order are put in theirs.
#[must_use]
pub fn first_seq(path: &Path) -> Option<u64> {
    let mut line = Vec::new();
    BufReader::new(File::open(path).ok()?)
        .take(log::LINE_MAX)
        .read_until(b'\n', &mut line)
        .ok()?;
    chain::read(line.strip_suffix(b"\n")?).map(|read| read.seq)
}

struct Walk<'a> {
    known: &'a Known,
    report: Report,
    /// The record before: as it was written, and as it should have been.
    before: Option<Before>,
    /// The highest number so far.
    last: Option<u64>,
    /// What the log says is its oldest record.
    oldest: Option<u64>,
    place: (PathBuf, u64),
    met: Vec<bool>,
    /// What the note beside the newest file says of the end.
    note: Option<Head>,
}

#[derive(Clone, Copy)]
struct Before {
    seq: u64,
    written: Digest,
    computed: Digest,
}

impl Walk<'_> {
    fn file(&mut self, path: &Path) -> io::Result<()> {
        let mut reader = BufReader::new(File::open(path)?);
        self.place = (path.to_owned(), 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            let len = (&mut reader)
                .take(log::LINE_MAX)
                .read_until(b'\n', &mut line)?;
            if len == 0 {
                return Ok(());
            }
            self.place.1 += 1;
            match line.strip_suffix(b"\n") {
                Some(line) => self.line(line),
                None => self.find("truncated", "the last line has no end".to_owned()),
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        if let Some(read) = chain::read(line) {
            self.record(&read);
            return;
        }
        let after = self.before.map_or(0, |before| before.seq);
        self.find(
            "changed",
            format!("this line is no record; it stands after record {after}"),
        );
    }

    fn record(&mut self, read: &Read<'_>) {
        let report = &mut self.report;
        report.records += 1;
        report.first.get_or_insert(read.seq);
        let seq = read.seq;
        let is_sound = read.computed == read.written;
        if !is_sound {
            self.find(
                "changed",
                format!("record {seq} does not have the hash that it was written with"),
            );
        }
        self.link(read);
        self.expect(read, is_sound);
        self.told(read, is_sound);
        self.before = Some(Before {
            seq,
            written: read.written,
            computed: read.computed,
        });
        self.last = self.last.max(Some(seq));
        self.report.head = Some((seq, read.written));
    }

    /// Whether it stands where it was written.
    fn link(&mut self, read: &Read<'_>) {
        let seq = read.seq;
        let Some(before) = self.before else {
            if seq == 1 && read.prev != Digest::default() {
                self.find(
                    "changed",
                    "record 1 follows another one, which is not there".to_owned(),
                );
            }
            return;
        };
        if self.last.is_some_and(|last| seq <= last) {
            self.find(
                "moved",
                format!(
                    "record {seq} stands after record {}: moved, repeated, or begun anew",
                    before.seq
                ),
            );
        } else if seq > before.seq + 1 {
            let (from, to) = (before.seq + 1, seq - 1);
            let which = if from == to {
                format!("record {from} is")
            } else {
                format!("records {from} to {to} are")
            };
            self.find("removed", format!("{which} missing before record {seq}"));
        } else if read.prev != before.written {
            let why = if read.prev == before.computed {
                "another hash was written into it"
            } else {
                "it is not the one that was written"
            };
            self.find(
                "changed",
                format!(
                    "record {} is not what record {seq} was chained to: {why}",
                    before.seq
                ),
            );
        }
    }

    fn expect(&mut self, read: &Read<'_>, is_sound: bool) {
        for (at, (seq, hash)) in self.known.expect.iter().enumerate() {
            if *seq == read.seq {
                self.met[at] = true;
                if is_sound && *hash != read.written {
                    let place = self.place.clone();
                    self.report.add(
                        place,
                        "replaced",
                        format!("record {seq} has another hash than the one that is expected"),
                    );
                }
            }
        }
        if let Some(note) = self.note.filter(|note| note.seq == read.seq)
            && is_sound
            && note.hash != read.written
        {
            self.find(
                "replaced",
                format!(
                    "record {} has another hash than the note beside the log",
                    note.seq
                ),
            );
        }
    }

    fn told(&mut self, read: &Read<'_>, is_sound: bool) {
        let Some(value) = read.value() else {
            if is_sound {
                self.find("changed", format!("record {} is no JSON", read.seq));
            }
            return;
        };
        let word = value["event"].as_str().unwrap_or_default();
        match word {
            chain::CHECKPOINT => self.checkpoint(read),
            "rotated" => self.oldest = value["oldest"].as_u64(),
            "damaged" | "missing" => {
                let told = format!("outrider found this at a start: {}", without_head(&value));
                self.find(
                    if word == "missing" {
                        "removed"
                    } else {
                        "changed"
                    },
                    told,
                );
            }
            "repaired" | "gap" => {
                self.report
                    .admitted
                    .push(format!("record {}: {}", read.seq, without_head(&value)));
            }
            _ => {}
        }
        if word != chain::CHECKPOINT && read.signed.is_some() {
            self.find(
                "changed",
                format!("record {} is signed and is no checkpoint", read.seq),
            );
        }
    }

    fn checkpoint(&mut self, read: &Read<'_>) {
        let seq = read.seq;
        if self.known.keys.is_empty() {
            self.report.unsigned += 1;
            return;
        }
        let is_good = read.signed.is_some_and(|(bytes, signature)| {
            self.known
                .keys
                .iter()
                .any(|key| key.knows(bytes, &signature))
        });
        if is_good {
            self.report.signed += 1;
            self.report.signed_to = seq;
        } else {
            self.find(
                "forged",
                format!("checkpoint {seq} is not signed by a key that was given"),
            );
        }
    }

    fn end(&mut self, newest: Option<&PathBuf>) {
        let Some(newest) = newest else { return };
        self.place = (newest.clone(), 0);
        let (first, last) = (self.report.first.unwrap_or(0), self.last.unwrap_or(0));
        let oldest = self.oldest.unwrap_or(1);
        if !self.known.open_begin && first > oldest {
            self.find(
                "removed",
                format!(
                    "records {oldest} to {} are missing at the beginning",
                    first - 1
                ),
            );
        }
        if !self.known.open_ended {
            match self.note {
                Some(note) if note.seq > last => {
                    self.find(
                        "truncated",
                        format!(
                            "records {} to {} are missing at the end",
                            last + 1,
                            note.seq
                        ),
                    );
                }
                None if self.known.expect.is_empty() => {
                    let what = "nothing says where the log ends: the note beside it is missing or spoilt; give --expect, or --open-ended for older files by themselves";
                    self.find("truncated", what.to_owned());
                }
                Some(_) | None => {}
            }
        }
        for (at, (seq, _)) in self.known.expect.iter().enumerate() {
            if !self.met[at] && *seq >= first {
                let place = self.place.clone();
                self.report.add(
                    place,
                    "truncated",
                    format!("record {seq} is expected and is not there"),
                );
            }
        }
        if !self.known.keys.is_empty() && self.report.signed == 0 && self.report.records > 0 {
            self.find(
                "forged",
                "a key was given, and no checkpoint is signed by it".to_owned(),
            );
        }
    }

    fn find(&mut self, word: &'static str, what: String) {
        let place = self.place.clone();
        self.report.add(place, word, what);
    }
}

impl Report {
    fn add(&mut self, place: (PathBuf, u64), word: &'static str, what: String) {
        self.found += 1;
        if self.findings.len() < NAMED_MAX {
            self.findings.push(Finding { place, word, what });
        }
    }
}

fn without_head(value: &Value) -> String {
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.remove("seq");
    }
    value.to_string()
}
