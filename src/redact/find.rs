//! Where in a text the secrets are.

/// Stretches of a text, as offsets.
#[derive(Debug, Default)]
pub struct Found {
    spans: Vec<(usize, usize)>,
    /// What is added is that much further on.
    pub base: usize,
}

impl Found {
    /// From `start` up to `end`, not included.
    pub fn add(&mut self, start: usize, end: usize) {
        self.spans.push((self.base + start, self.base + end));
    }

    /// Whether something that was found reaches over this place.
    pub fn covers(&self, at: usize) -> bool {
        let at = self.base + at;
        self.spans
            .iter()
            .any(|(start, end)| (*start..*end).contains(&at))
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// In order, and what overlaps or touches is one.
    pub fn merged(mut self) -> Vec<(usize, usize)> {
        self.spans.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(self.spans.len());
        for (start, end) in self.spans {
            match merged.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        merged
    }
}

/// What a number or key never stands directly beside: then it is part of something longer.
pub const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
