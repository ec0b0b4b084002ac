//! One pod's view of the chain of purges.
//!
//! Every purge is a record with a number drawn by chance and the number of the one before it. A pod follows the chain record
//! by record; whatever does not join on to what it knows makes it read the chain. An entry in Redis carries the number of the
//! record its pod had come to when its fetch began; another pod believes it if it knows that number and no later record names
//! the entry.
//!
//! | event | the pod | does |
//! |---|---|---|
//! | it listens from now on | is out of step | reads |
//! | it listens no more | is out of step | nothing: what it has stays, what is in Redis is not believed |
//! | a record that joins on | takes it | purges what it names |
//! | a record that it knows | - | nothing |
//! | another record | is out of step | reads |
//! | reads: the head it knows | is in step | nothing |
//! | reads: a chain that joins on somewhere | takes the rest, is in step | purges what that names |
//! | reads, for the first time | takes the chain, is in step | flushes: purges that came before it listened are not known |
//! | reads: a chain that does not join on | takes it | flushes, and orders a purge of everything, which names the head it had, for purges that it knew may be lost to all |
//! | cannot compare for a while | is out of step | nothing |
//! | a purge of its own is ordered | is out of step until Redis has it | has purged already; submits |
//!
//! Redis may lose the last records (a primary that dies before its replica had them), all of them, or take records on two
//! sides of a partition. Each time the pod that knew what is lost finds that the chain does not join on, and the purge of
//! everything that follows covers it.

use std::collections::HashMap;
use std::collections::VecDeque;

/// A record's number; 0 is none.
pub type Id = u64;

/// Records that the chain keeps, in Redis and here. Who misses more flushes.
pub const KEPT: usize = 1024;
/// Purges of its own that a pod keeps while Redis is away; more become a purge of everything.
pub const PENDING_MAX: usize = 64;

/// What is purged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Everything.
    All,
    /// All answers of a URL, as it stands in keys.
    Url(Box<[u8]>),
    /// All answers with a tag.
    Tag(Box<str>),
}

/// A link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub id: Id,
    /// The one before it in Redis.
    pub prev: Id,
    /// Another one that it comes after: the head that its pod had, where that was not in Redis any more.
    pub also: Id,
    /// Made stale rather than removed.
    pub soft: bool,
    /// What it names.
    pub what: What,
}

impl Record {
    /// What a pod says of a record; Redis puts `1 id prev also ` before it.
    #[must_use]
    pub fn order(soft: bool, what: &What) -> Vec<u8> {
        let mut text = vec![if soft { b's' } else { b'h' }, b' '];
        match what {
            What::All => text.push(b'a'),
            What::Url(url) => {
                text.push(b'u');
                text.extend_from_slice(url);
            }
            What::Tag(tag) => {
                text.push(b't');
                text.extend_from_slice(tag.as_bytes());
            }
        }
        text
    }

    /// The text of a whole record, as Redis makes it.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let (id, prev, also) = (name(self.id), name(self.prev), name(self.also));
        let mut text = format!("1 {id} {prev} {also} ").into_bytes();
        text.extend(Self::order(self.soft, &self.what));
        text
    }

    /// Reads a whole record; `None` if it is none, or of another version.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut parts = text.splitn(6, |byte| *byte == b' ');
        if parts.next()? != b"1" {
            return None;
        }
        let mut number = || {
            let text = std::str::from_utf8(parts.next()?).ok()?;
            Id::from_str_radix(text, 16)
                .ok()
                .filter(|_| text.len() == 16)
        };
        let (id, prev, also) = (number()?, number()?, number()?);
        let soft = match parts.next()? {
            b"s" => true,
            b"h" => false,
            _ => return None,
        };
        let (kind, rest) = parts.next()?.split_first()?;
        let what = match kind {
            b'a' if rest.is_empty() => What::All,
            b'u' => What::Url(rest.into()),
            b't' => What::Tag(std::str::from_utf8(rest).ok()?.into()),
            _ => return None,
        };
        (id != 0).then_some(Self {
            id,
            prev,
            also,
            soft,
            what,
        })
    }

    fn joins(&self, head: Id) -> bool {
        self.prev == head || self.also == head
    }
}

/// A number as it stands in Redis.
#[must_use]
pub fn name(id: Id) -> String {
    format!("{id:016x}")
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Read the chain.
    Read,
    /// Purge this from memory.
    Purge(What, bool),
    /// Submit what is pending.
    Submit,
}

/// A purge of our own that Redis does not have yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The number it will have.
    pub id: Id,
    /// See [`Record::also`].
    pub also: Id,
    /// Made stale rather than removed.
    pub soft: bool,
    /// What it names.
    pub what: What,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    head: Option<Id>,
    listens: bool,
    in_step: bool,
    chain: VecDeque<Id>,
    /// The place of the first of `chain`; places only grow.
    first: u64,
    places: HashMap<Id, u64>,
    all: u64,
    urls: HashMap<Box<[u8]>, u64>,
    tags: HashMap<Box<str>, u64>,
    pending: VecDeque<Pending>,
}

impl Ledger {
    /// Whether what is in Redis can be judged now.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.listens && self.in_step && self.pending.is_empty()
    }

    /// Whether messages come.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.listens
    }

    /// The record it has come to; 0 before the first.
    #[must_use]
    pub fn head(&self) -> Id {
        self.head.unwrap_or(0)
    }

    /// What an entry carries whose fetch begins now; `None` while it would not be believed.
    #[must_use]
    pub fn stamp(&self) -> Option<Id> {
        self.head.filter(|_| self.is_in_step())
    }

    /// Whether an entry with this stamp was purged by nothing that is known.
    #[must_use]
    pub fn vouches<'a>(
        &self,
        stamp: Id,
        url: &[u8],
        tags: impl IntoIterator<Item = &'a str>,
    ) -> bool {
        let Some(place) = self.places.get(&stamp).filter(|_| self.is_in_step()) else {
            return false;
        };
        let is_later = |named: Option<&u64>| named.is_some_and(|named| named > place);
        self.all <= *place
            && !is_later(self.urls.get(url))
            && !tags.into_iter().any(|tag| is_later(self.tags.get(tag)))
    }

    /// Messages come from now on; any may have been missed.
    pub fn joined(&mut self) -> Vec<Do> {
        self.listens = true;
        self.in_step = false;
        vec![Do::Read]
    }

    /// None come any more.
    pub fn lost(&mut self) {
        self.listens = false;
        self.in_step = false;
    }

    /// It could not compare for a while: messages may come from where no purge is heard of.
    pub fn doubts(&mut self) {
        self.in_step = false;
    }

    /// A message came.
    pub fn heard(&mut self, record: Record) -> Vec<Do> {
        match self.head {
            _ if self.places.contains_key(&record.id) => Vec::new(),
            Some(head) if record.joins(head) => vec![self.take(record)],
            _ => {
                self.in_step = false;
                vec![Do::Read]
            }
        }
    }

    /// The chain was read. `fresh` is a number for a purge of everything, should one be needed.
    pub fn read(&mut self, head: Id, log: Vec<Record>, fresh: Id) -> Vec<Do> {
        let Some(mine) = self.head else {
            self.adopt(head, log);
            self.in_step = true;
            return vec![Do::Purge(What::All, false)];
        };
        self.in_step = true;
        if mine == head {
            return self.submission();
        }
        let after = log.iter().position(|record| record.id == mine);
        let joint = log.iter().position(|record| record.joins(mine));
        if let Some(from) = after.map(|at| at + 1).or(joint) {
            let rest = log.into_iter().skip(from);
            let mut todo: Vec<Do> = rest.map(|record| self.take(record)).collect();
            todo.extend(self.submission());
            return todo;
        }
        self.adopt(head, log);
        self.pending.push_front(Pending {
            id: fresh,
            also: mine,
            soft: false,
            what: What::All,
        });
        vec![Do::Purge(What::All, false), Do::Submit]
    }

    /// A purge of our own is wanted. Memory is purged already.
    pub fn order(&mut self, id: Id, soft: bool, what: What) -> Vec<Do> {
        let (what, soft) = if self.pending.len() < PENDING_MAX {
            (what, soft)
        } else {
            let also = self.pending.front().map_or(0, |first| first.also);
            self.pending.clear();
            if also != 0 {
                self.pending.push_back(Pending {
                    id: id ^ 1,
                    also,
                    soft: false,
                    what: What::All,
                });
            }
            (What::All, false)
        };
        self.pending.push_back(Pending {
            id,
            also: 0,
            soft,
            what,
        });
        vec![Do::Submit]
    }

    /// What Redis does not have yet, the oldest first.
    #[must_use]
    pub fn pending(&self) -> Option<&Pending> {
        self.pending.front()
    }

    /// How many those are.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Redis has taken what was pending, as this record.
    pub fn submitted(&mut self, record: Record) -> Vec<Do> {
        self.pending.retain(|pending| pending.id != record.id);
        let more = self.submission();
        let mut todo = match self.head {
            _ if self.places.contains_key(&record.id) => Vec::new(),
            Some(head) if record.joins(head) => {
                // What it names was purged before it was submitted.
                let _ = self.take(record);
                Vec::new()
            }
            _ => {
                self.in_step = false;
                vec![Do::Read]
            }
        };
        todo.extend(more);
        todo
    }

    fn submission(&self) -> Vec<Do> {
        let wanted = !self.pending.is_empty();
        wanted.then_some(Do::Submit).into_iter().collect()
    }

    fn take(&mut self, record: Record) -> Do {
        let place = self.first + self.chain.len() as u64;
        self.chain.push_back(record.id);
        self.places.insert(record.id, place);
        self.head = Some(record.id);
        match &record.what {
            What::All => self.all = place,
            What::Url(url) => {
                self.urls.insert(url.clone(), place);
            }
            What::Tag(tag) => {
                self.tags.insert(tag.clone(), place);
            }
        }
        if self.chain.len() > KEPT {
            self.forget();
        }
        Do::Purge(record.what, record.soft)
    }

    /// Lets the older half go: an entry that carries one of those numbers is not believed any more.
    fn forget(&mut self) {
        while self.chain.len() > KEPT / 2 {
            if let Some(id) = self.chain.pop_front() {
                self.places.remove(&id);
                self.first += 1;
            }
        }
        let first = self.first;
        self.urls.retain(|_, place| *place >= first);
        self.tags.retain(|_, place| *place >= first);
    }

    /// Takes a chain in place of the one that was followed.
    fn adopt(&mut self, head: Id, log: Vec<Record>) {
        self.first += self.chain.len() as u64 + 1;
        self.chain.clear();
        self.places.clear();
        self.urls.clear();
        self.tags.clear();
        self.all = 0;
        for record in log {
            let _ = self.take(record);
        }
        if self.head() != head || self.chain.is_empty() {
            // Only the head is left of it.
            self.places
                .insert(head, self.first + self.chain.len() as u64);
            self.chain.push_back(head);
        }
        self.head = Some(head);
    }
}
