//! `audit`: where the record of what was done is kept.

use std::path::PathBuf;
use std::time::Duration;

use crate::kit::fields::Fields;

/// `audit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file that is written now. Older ones stand beside it, with the number of their first record behind the name.
    pub file: PathBuf,
    /// Bytes after which a new file is begun. Range: 4 KiB to 16 GiB. Default: 64 MiB.
    pub rotate: u64,
    /// Age after which a new file is begun; `None`: size alone decides. Default: off.
    pub age: Option<Duration>,
    /// Older files that are kept; the oldest goes first. Range: 1 to 10000. Default: 10.
    pub keep: u32,
    /// Time between two checkpoints, and between two tellings of what comes often. Range: 1 s to 1 h. Default: 1 m.
    pub checkpoint: Duration,
    /// The file with the Ed25519 key that signs checkpoints; `None`: there are none. Default: none.
    pub key: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            file: PathBuf::new(),
            rotate: 64 << 20,
            age: None,
            keep: 10,
            checkpoint: Duration::from_secs(60),
            key: None,
        }
    }
}

impl Settings {
    /// From the policy's block.
    #[must_use]
    pub fn lift<F: Fields>(block: &F) -> Self {
        let built_in = Self::default();
        Self {
            file: block.word("file").map(PathBuf::from).unwrap_or_default(),
            rotate: block.size("rotate").unwrap_or(built_in.rotate),
            age: block.duration("age"),
            keep: block.count("keep").unwrap_or(built_in.keep),
            checkpoint: block.duration("checkpoint").unwrap_or(built_in.checkpoint),
            key: block
                .word("key")
                .and_then(|place| place.strip_prefix("file:"))
                .map(PathBuf::from),
        }
    }
}
