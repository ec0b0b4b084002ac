//! The file: opened, mended after a crash, written whole or not at all, and begun anew when it has grown.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::chain;
use super::chain::Head;
use super::config::Settings;
use super::event::Event;
use super::key::KeyError;
use super::key::SigningKey;

/// The version of the format, told where a chain begins.
pub const FORMAT: u64 = 1;

/// The longest record that is read. What outrider writes is bounded far below.
pub const LINE_MAX: u64 = 1 << 20;

/// Why an audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error("cannot open the audit log {0}: {1}")]
    File(String, io::Error),
    /// The key.
    #[error("audit.key: {0}")]
    Key(#[from] KeyError),
}

/// An event and when it was.
#[derive(Clone, Debug)]
pub struct Stamped {
    pub time: Duration,
    pub event: Event,
}

/// An audit log that is being written.
#[derive(Debug)]
pub struct Log {
    file: File,
    settings: Settings,
    key: Option<SigningKey>,
    /// Where the chain ends.
    pub(super) head: Head,
    /// Bytes that are known to be whole.
    size: u64,
    /// The number of this file's first record.
    first: u64,
    began: Duration,
    /// The number of the last checkpoint, or of the record before the first that needs one.
    signed: u64,
    /// A write failed part-way and its rest could not be taken back.
    torn: bool,
}

impl Log {
    /// Goes on where the file ends, or begins one. What has to be said of it is the first to be written.
    ///
    /// # Errors
    /// If the file cannot be opened or the key cannot be read.
    pub fn open(settings: Settings, now: Duration) -> Result<(Self, Vec<Event>), OpenError> {
        let key = settings.key.as_deref().map(SigningKey::read).transpose()?;
        let blame = |error| OpenError::File(settings.file.display().to_string(), error);
        let mut file = create(&settings.file).map_err(blame)?;
        let mut told = Vec::new();
        let mut found = mend(&mut file).map_err(blame)?;
        if found.is_foreign {
            let aside = aside(&settings.file, now);
            fs::rename(&settings.file, &aside).map_err(blame)?;
            file = create(&settings.file).map_err(blame)?;
            let name = aside.display().to_string();
            told.push(Event::new("damaged").with("set_aside", name));
            found = Found::default();
        }
        if let Some(cut) = &found.cut {
            let event = Event::new("repaired").with("bytes", cut.len() as u64);
            told.push(event.with("sha256", chain::hex(&chain::sha256(cut))));
        }
        // A file that was just rotated away from, or one that has lost its last records: the note beside it knows.
        let noted = read_head(&settings.file);
        let head = match noted {
            Some(noted) if found.head.seq == 0 => noted,
            Some(noted) if noted.seq > found.head.seq => {
                let lost = Event::new("missing").with("from", found.head.seq + 1);
                told.push(lost.with("to", noted.seq));
                found.head
            }
            _ => found.head,
        };
        if head.seq > 0 && found.head.seq == 0 {
            told.push(Event::new("continued").with("after", head.seq));
        }
        let log = Self {
            file,
            key,
            size: found.size,
            first: if found.first == 0 {
                head.seq + 1
            } else {
                found.first
            },
            began: now,
            signed: head.seq,
            head,
            torn: false,
            settings,
        };
        Ok((log, told))
    }

    /// Writes all of them or, with an error, none.
    ///
    /// # Errors
    /// What the system said; the same can be tried again.
    pub fn append(&mut self, events: &[Stamped]) -> io::Result<()> {
        let signs = |event: &Event| event.what == chain::CHECKPOINT;
        let (mut head, mut text) = (self.head, String::new());
        for Stamped { time, event } in events {
            let key = self.key.as_ref().filter(|_| signs(event));
            head.write(&mut text, *time, event, key);
        }
        self.write(text.as_bytes())?;
        self.head = head;
        if events.last().is_some_and(|last| signs(&last.event)) {
            self.signed = head.seq;
        }
        Ok(())
    }

    /// Notes beside the file where the chain ends. After the records are on the disk, never before: the note may be late,
    /// but it never knows of records that are not there.
    ///
    /// # Errors
    /// What the system said.
    pub fn note(&self) -> io::Result<()> {
        let hash = chain::hex(&self.head.hash);
        let note = json!({ "seq": self.head.seq, "hash": hash });
        let new = with_suffix(&self.settings.file, ".head.new");
        fs::write(&new, format!("{note}\n"))?;
        fs::rename(&new, head_path(&self.settings.file))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.size)?;
            self.torn = false;
        }
        let written = self
            .file
            .write_all(bytes)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.torn = self.file.set_len(self.size).is_err();
            return Err(error);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// A checkpoint, if there is a key and something that none covers yet.
    pub fn checkpoint(&self) -> Option<Event> {
        let key = self.key.as_ref().filter(|_| self.head.seq > self.signed)?;
        Some(Event::new(chain::CHECKPOINT).with("key", key.public().fingerprint()))
    }

    /// Whether it is time for a new file.
    pub fn is_full(&self, now: Duration) -> bool {
        let is_old = self
            .settings
            .age
            .is_some_and(|age| now.saturating_sub(self.began) >= age);
        self.size > 0 && (self.size >= self.settings.rotate || is_old)
    }

    /// Begins a new file. Gives what its first record says.
    ///
    /// # Errors
    /// If it cannot be: then the old one goes on.
    pub fn rotate(&mut self, now: Duration) -> io::Result<Event> {
        let old = rotated(&self.settings.file, self.first);
        fs::rename(&self.settings.file, &old)?;
        let file = match create(&self.settings.file) {
            Ok(file) => file,
            Err(error) => {
                // Back, so that the next start finds the chain where it left it.
                let _ = fs::rename(&old, &self.settings.file);
                return Err(error);
            }
        };
        self.file = file;
        self.size = 0;
        self.began = now;
        self.first = self.head.seq + 1;
        let mut kept = siblings(&self.settings.file);
        while kept.len() > self.settings.keep as usize {
            let (_, oldest) = kept.remove(0);
            // What cannot be removed now can be at the next turn.
            let _ = fs::remove_file(oldest);
        }
        let oldest = kept.first().map_or(self.first, |(first, _)| *first);
        Ok(Event::new("rotated").with("oldest", oldest))
    }
}

/// Readable by its owner alone: what was done is nobody else's affair.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

/// What is in a file already.
#[derive(Debug, Default)]
struct Found {
    head: Head,
    first: u64,
    size: u64,
    /// A last line without an end, which a crash left behind.
    cut: Option<Vec<u8>>,
    /// Its last whole line is no record: nothing can be chained to it.
    is_foreign: bool,
}

fn mend(file: &mut File) -> io::Result<Found> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(2 * LINE_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    // No more than its length: what is no file may have no end.
    file.take(len - from).read_to_end(&mut tail)?;
    let whole = memchr::memrchr(b'\n', &tail).map_or(0, |at| at + 1);
    let cut = tail.split_off(whole);
    let size = from + whole as u64;
    if !cut.is_empty() {
        file.set_len(size)?;
        file.sync_data()?;
    }
    let cut = Some(cut).filter(|cut| !cut.is_empty());
    let mut found = Found {
        size,
        cut,
        ..Found::default()
    };
    if size == 0 {
        return Ok(found);
    }
    let lines = &tail[..tail.len() - 1];
    let begin = memchr::memrchr(b'\n', lines).map_or(0, |at| at + 1);
    match chain::read(&lines[begin..]).filter(|read| read.computed == read.written) {
        None => found.is_foreign = true,
        Some(last) => {
            found.head = Head {
                seq: last.seq,
                hash: last.written,
            };
            found.first = first_of(file)?.unwrap_or(last.seq);
        }
    }
    Ok(found)
}

fn first_of(file: &mut File) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(0))?;
    let mut begin = Vec::new();
    file.take(LINE_MAX).read_to_end(&mut begin)?;
    let end = memchr::memchr(b'\n', &begin);
    Ok(end
        .and_then(|end| chain::read(&begin[..end]))
        .map(|read| read.seq))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn rotated(path: &Path, first: u64) -> PathBuf {
    with_suffix(path, &format!(".{first:012}"))
}

fn aside(path: &Path, now: Duration) -> PathBuf {
    with_suffix(path, &format!(".damaged-{}", now.as_millis()))
}

/// The note of where the chain ends, which stands beside the file.
pub fn head_path(path: &Path) -> PathBuf {
    with_suffix(path, ".head")
}

/// Older files of a log and the numbers of their first records, oldest first.
pub fn siblings(path: &Path) -> Vec<(u64, PathBuf)> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter();
    let mut found: Vec<(u64, PathBuf)> = entries
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let entry_name = entry.file_name();
            let number = entry_name.to_str()?.strip_prefix(name)?.strip_prefix('.')?;
            let is_number = number.len() >= 12 && number.bytes().all(|byte| byte.is_ascii_digit());
            Some((number.parse().ok().filter(|_| is_number)?, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// What the note says; `None` if there is none, or none that makes sense.
pub fn read_head(path: &Path) -> Option<Head> {
    let text = fs::read_to_string(head_path(path)).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    Some(Head {
        seq: value["seq"].as_u64()?,
        hash: chain::from_hex(value["hash"].as_str()?)?,
    })
}
