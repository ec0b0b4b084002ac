//! Where the policy says that the identity comes from.

use std::path::PathBuf;
use std::sync::Arc;

use crate::identity::source::Files;
use crate::identity::source::Source;
use crate::identity::source::Workload;

/// The `identity` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// The SPIFFE Workload API at this socket.
    Workload(PathBuf),
    /// Files.
    Files(Files),
}

impl Settings {
    /// The source that reads it.
    #[must_use]
    pub fn source(&self) -> Arc<dyn Source> {
        match self {
            Self::Workload(socket) => Arc::new(Workload::new(socket.clone())),
            Self::Files(files) => Arc::new(files.clone()),
        }
    }
}
