mod cut;
mod writing;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use tempfile::TempDir;

use super::log::Log;
use super::log::Stamped;
use super::log::read_head;
use super::verify::Known;
use super::verify::Report;
use super::verify::files_of;
use super::verify::verify;
use super::*;

const NOW: Duration = Duration::from_millis(1_790_000_000_042);

/// A folder with a key in it, and a log in the making.
struct Desk {
    folder: TempDir,
    settings: Settings,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = Ed25519KeyPair::generate().unwrap();
        let der = pair.to_pkcs8().unwrap();
        let key = folder.path().join("key.pem");
        fs::write(&key, pem(der.as_ref())).unwrap();
        let settings = Settings {
            file: folder.path().join("audit.log"),
            key: Some(key),
            ..Settings::default()
        };
        Self { folder, settings }
    }

    fn file(&self) -> &Path {
        &self.settings.file
    }

    fn open(&self) -> Log {
        let (mut log, told) = Log::open(self.settings.clone(), NOW).unwrap();
        let told: Vec<Stamped> = told.into_iter().map(stamped).collect();
        log.append(&told).unwrap();
        log.note().unwrap();
        log
    }

    fn known(&self) -> Known {
        let key = self.settings.key.as_ref().unwrap();
        Known {
            keys: vec![PublicKey::read(key).unwrap()],
            ..Known::default()
        }
    }

    fn verify(&self) -> Report {
        self.verify_with(&self.known())
    }

    fn verify_with(&self, known: &Known) -> Report {
        verify(&files_of(std::slice::from_ref(&self.settings.file)), known).unwrap()
    }
}

fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for chunk in der.chunks(3) {
        let word = (0..3).fold(0_u32, |word, at| {
            word << 8 | u32::from(*chunk.get(at).unwrap_or(&0))
        });
        for digit in 0..4 {
            if digit <= chunk.len() {
                body.push(char::from(
                    ALPHABET[(word >> (18 - 6 * digit) & 63) as usize],
                ));
            } else {
                body.push('=');
            }
        }
    }
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

fn stamped(event: Event) -> Stamped {
    Stamped { time: NOW, event }
}

fn event(nth: u64) -> Event {
    Event::new("breaker")
        .by("127.0.0.1")
        .with("upstream", "pay")
        .with("nth", nth)
}

fn write(log: &mut Log, from: u64, to: u64) {
    let events: Vec<Stamped> = (from..to).map(|nth| stamped(event(nth))).collect();
    log.append(&events).unwrap();
    log.note().unwrap();
}

fn sign(log: &mut Log) {
    let checkpoint = log.checkpoint().expect("there is something to sign");
    log.append(&[stamped(checkpoint)]).unwrap();
    log.note().unwrap();
}

fn words(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.word).collect()
}
