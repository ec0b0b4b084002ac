//! Where answers stand in Redis: digests, so that nothing of a request can be read in a key, and one slot for each URL.

use std::fmt::Write;
use std::sync::Arc;

use aws_lc_rs::digest;

/// Where something stands in Redis, and how it is known again.
#[derive(Clone, Debug)]
pub struct Place {
    /// `prefix:service:{url}`: what keeps a URL together.
    root: Arc<str>,
    /// The digest of the whole key. The same for nothing else.
    pub digest: [u8; 32],
}

impl Place {
    /// Where the answer to `key` stands; `url` is the part of it that is one.
    #[must_use]
    pub fn new(namespace: &str, url: &[u8], key: &[u8]) -> Self {
        let mut start = [0; 8];
        start.copy_from_slice(&digest_of(&[url])[..8]);
        let url = u64::from_be_bytes(start);
        Self {
            root: format!("{namespace}:{{{url:016x}}}").into(),
            digest: digest_of(&[key]),
        }
    }

    /// The place beside it for those whose request has these selecting fields.
    #[must_use]
    pub fn selected(&self, by: &[u8]) -> Self {
        Self {
            root: Arc::clone(&self.root),
            digest: digest_of(&[&self.digest, by]),
        }
    }

    /// The name of the key of this kind: `e` an entry, `l` a lease.
    pub(super) fn key(&self, kind: &str) -> String {
        let mut text = format!("{}:{kind}:", self.root);
        for byte in &self.digest[..16] {
            write!(text, "{byte:02x}").expect("a String takes all");
        }
        text
    }

    /// The name of the key that holds the era of its URL.
    pub(super) fn era(&self) -> String {
        format!("{}:era", self.root)
    }
}

fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}
