//! The rows of the table, and a fleet under partitions, failovers that lose records, and two sides that both take purges.

use std::collections::HashMap;
use std::collections::VecDeque;

use super::machine::Do;
use super::machine::Id;
use super::machine::KEPT;
use super::machine::Ledger;
use super::machine::PENDING_MAX;
use super::machine::Record;
use super::machine::What;
use crate::kit::walk;
use crate::kit::walk::Draws;

fn record(id: Id, prev: Id, what: What) -> Record {
    Record {
        id,
        prev,
        also: 0,
        soft: false,
        what,
    }
}

fn tag(text: &str) -> What {
    What::Tag(text.into())
}

/// In step at record 1.
fn in_step() -> Ledger {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.joined(), [Do::Read]);
    let todo = ledger.read(1, vec![record(1, 0, What::All)], 99);
    assert_eq!(todo, [Do::Purge(What::All, false)], "what it has is older");
    assert!(ledger.is_in_step());
    ledger
}

#[test]
fn records_are_read_as_they_are_written() {
    for what in [
        What::All,
        What::Url(b"http://a/b c?d=%20".as_slice().into()),
        tag("a b"),
        tag(""),
    ] {
        for soft in [false, true] {
            let record = Record {
                id: 7,
                prev: 0,
                also: u64::MAX,
                soft,
                what: what.clone(),
            };
            assert_eq!(Record::read(&record.write()), Some(record));
        }
    }
}

#[test]
fn what_is_no_record_is_not_read() {
    let good = record(7, 3, tag("x")).write();
    assert!(Record::read(&good).is_some());
    let mut other = good.clone();
    other[0] = b'2';
    assert_eq!(Record::read(&other), None, "another version");
    for end in 0..good.len() - 2 {
        assert_eq!(Record::read(&good[..end]), None, "cut at {end}");
    }
    assert_eq!(Record::read(&record(0, 3, What::All).write()), None);
}

#[test]
fn a_record_that_joins_on_is_taken() {
    let mut ledger = in_step();
    let todo = ledger.heard(record(2, 1, tag("a")));
    assert_eq!(todo, [Do::Purge(tag("a"), false)]);
    assert!(!ledger.vouches(1, b"u", ["a"]));
    assert!(ledger.vouches(1, b"u", ["b"]));
    assert!(ledger.vouches(2, b"u", ["a"]), "fetched after it");
}

#[test]
fn a_record_that_is_known_changes_nothing() {
    let mut ledger = in_step();
    assert_eq!(ledger.heard(record(1, 0, What::All)), []);
    assert!(ledger.is_in_step());
}

#[test]
fn a_record_that_does_not_join_on_is_read_up_to() {
    let mut ledger = in_step();
    assert_eq!(ledger.heard(record(3, 2, tag("b"))), [Do::Read]);
    assert!(!ledger.is_in_step() && !ledger.vouches(1, b"u", []));
    let log = vec![
        record(1, 0, What::All),
        record(2, 1, tag("a")),
        record(3, 2, tag("b")),
    ];
    let todo = ledger.read(3, log, 99);
    assert_eq!(
        todo,
        [Do::Purge(tag("a"), false), Do::Purge(tag("b"), false)]
    );
    assert!(ledger.is_in_step());
}

#[test]
fn who_listens_no_more_believes_nothing() {
    let mut ledger = in_step();
    ledger.lost();
    assert!(!ledger.vouches(1, b"u", []) && ledger.stamp().is_none());
    assert_eq!(ledger.joined(), [Do::Read]);
    assert_eq!(ledger.read(1, Vec::new(), 99), []);
    assert!(ledger.vouches(1, b"u", []));
}

#[test]
fn who_cannot_compare_believes_nothing_until_it_can() {
    let mut ledger = in_step();
    ledger.doubts();
    assert!(!ledger.vouches(1, b"u", []));
    assert_eq!(ledger.read(1, Vec::new(), 99), []);
    assert!(ledger.vouches(1, b"u", []));
}

#[test]
fn a_chain_that_lost_what_is_known_is_flushed_for_all() {
    let mut ledger = in_step();
    let _ = ledger.heard(record(2, 1, tag("a")));
    let todo = ledger.read(1, vec![record(1, 0, What::All)], 99);
    assert_eq!(todo, [Do::Purge(What::All, false), Do::Submit]);
    assert!(!ledger.is_in_step());
    let pending = ledger.pending().expect("it was ordered").clone();
    assert_eq!((pending.also, &pending.what), (2, &What::All));
    let taken = Record {
        also: 2,
        ..record(99, 1, What::All)
    };
    assert_eq!(ledger.submitted(taken.clone()), []);
    assert!(ledger.is_in_step() && !ledger.vouches(1, b"u", []));
    // Another pod that knew the lost record joins on by it.
    let mut other = in_step();
    let _ = other.heard(record(2, 1, tag("a")));
    assert_eq!(other.heard(taken), [Do::Purge(What::All, false)]);
}

#[test]
fn a_purge_of_its_own_is_pending_until_redis_has_it() {
    let mut ledger = in_step();
    assert_eq!(ledger.order(5, false, tag("a")), [Do::Submit]);
    assert!(!ledger.vouches(1, b"u", []), "what Redis has may be named");
    assert_eq!(ledger.submitted(record(5, 1, tag("a"))), []);
    assert!(ledger.vouches(1, b"u", []) && !ledger.vouches(1, b"u", ["a"]));
}

#[test]
fn too_many_pending_become_one_of_everything() {
    let mut ledger = in_step();
    for id in 0..=PENDING_MAX as u64 {
        let _ = ledger.order(100 + id, false, tag("a"));
    }
    assert_eq!(ledger.pending_count(), 1);
    assert_eq!(ledger.pending().map(|it| &it.what), Some(&What::All));
}

#[test]
fn an_entry_older_than_what_is_remembered_is_not_believed() {
    let mut ledger = in_step();
    for id in 2..=KEPT as u64 + 2 {
        let _ = ledger.heard(record(id, id - 1, tag("a")));
    }
    assert!(!ledger.vouches(2, b"u", []));
    assert!(ledger.vouches(KEPT as u64 + 1, b"u", []));
}

const KEYS: usize = 4;

#[derive(Clone, Default)]
struct Redis {
    head: Id,
    log: Vec<Record>,
}

impl Redis {
    fn take(&mut self, id: Id, also: Id, what: What) -> Record {
        let taken = Record {
            also,
            ..record(id, self.head, what)
        };
        self.head = id;
        self.log.push(taken.clone());
        let more = self.log.len().saturating_sub(KEPT);
        self.log.drain(..more);
        taken
    }
}

struct Fetching {
    key: usize,
    version: u64,
    stamp: Option<Id>,
    purges: u64,
}

#[derive(Default)]
struct Pod {
    ledger: Ledger,
    connected: bool,
    side: usize,
    messages: VecDeque<Record>,
    memory: HashMap<usize, u64>,
    /// Counts local purges, as the store does.
    purges: u64,
    fetching: Vec<Fetching>,
}

impl Pod {
    fn purge(&mut self, what: &What) {
        self.purges += 1;
        self.memory.retain(|key, _| !names(what, *key));
    }
}

fn url(key: usize) -> [u8; 1] {
    [b'0' + key as u8]
}

fn tag_of(key: usize) -> &'static str {
    ["even", "odd"][key % 2]
}

fn names(what: &What, key: usize) -> bool {
    match what {
        What::All => true,
        What::Url(text) => **text == url(key),
        What::Tag(tag) => **tag == *tag_of(key),
    }
}

struct World {
    sides: [Redis; 2],
    /// What a failover leaves.
    replica: Redis,
    pods: Vec<Pod>,
    /// Entries in other shards, which no failover of the chain's shard touches.
    entries: HashMap<usize, (u64, Id)>,
    versions: [u64; KEYS],
    /// What no answer may be older than.
    least: [u64; KEYS],
    next: Id,
}

impl World {
    fn id(&mut self) -> Id {
        self.next += 1;
        self.next
    }

    fn publish(&mut self, side: usize, record: &Record) {
        for pod in self.pods.iter_mut().filter(|pod| pod.connected) {
            if pod.side == side {
                pod.messages.push_back(record.clone());
            }
        }
    }

    fn obey(&mut self, at: usize, todo: Vec<Do>) {
        for one in todo {
            match one {
                Do::Purge(what, _) => self.pods[at].purge(&what),
                Do::Read => self.read(at),
                Do::Submit => self.submit(at),
            }
        }
    }

    fn read(&mut self, at: usize) {
        if !self.pods[at].connected {
            return;
        }
        let side = self.pods[at].side;
        if self.sides[side].head == 0 {
            let (id, mine) = (self.id(), self.pods[at].ledger.head());
            self.sides[side].head = mine;
            let begun = self.sides[side].take(id, 0, What::All);
            self.publish(side, &begun);
        }
        let (redis, fresh) = (self.sides[side].clone(), self.id());
        let todo = self.pods[at].ledger.read(redis.head, redis.log, fresh);
        self.obey(at, todo);
    }

    fn submit(&mut self, at: usize) {
        let pod = &self.pods[at];
        let (side, connected) = (pod.side, pod.connected);
        let Some(pending) = pod.ledger.pending().cloned().filter(|_| connected) else {
            return;
        };
        let record = self.sides[side].take(pending.id, pending.also, pending.what);
        self.publish(side, &record);
        let todo = self.pods[at].ledger.submitted(record);
        self.obey(at, todo);
    }

    fn hear(&mut self, at: usize) {
        if let Some(record) = self.pods[at].messages.pop_front() {
            let todo = self.pods[at].ledger.heard(record);
            self.obey(at, todo);
        }
    }

    fn connect(&mut self, at: usize) {
        self.pods[at].connected = true;
        let todo = self.pods[at].ledger.joined();
        self.obey(at, todo);
    }

    fn cut(&mut self, at: usize) {
        let pod = &mut self.pods[at];
        pod.connected = false;
        pod.messages.clear();
        pod.ledger.lost();
    }

    fn purge(&mut self, at: usize, what: What) {
        for key in 0..KEYS {
            if names(&what, key) {
                self.versions[key] += 1;
                self.least[key] = self.versions[key];
            }
        }
        let id = self.id();
        let pod = &mut self.pods[at];
        pod.purge(&what);
        let todo = pod.ledger.order(id, false, what);
        self.obey(at, todo);
    }

    fn ask(&mut self, at: usize, key: usize) {
        let pod = &mut self.pods[at];
        if pod.memory.contains_key(&key) {
            return;
        }
        if let Some((version, stamp)) = self.entries.get(&key).filter(|_| pod.connected)
            && pod.ledger.vouches(*stamp, &url(key), [tag_of(key)])
        {
            pod.memory.insert(key, *version);
            return;
        }
        let (stamp, purges) = (pod.ledger.stamp(), pod.purges);
        pod.fetching.push(Fetching {
            key,
            version: self.versions[key],
            stamp,
            purges,
        });
    }

    fn fetched(&mut self, at: usize, draws: &mut Draws) {
        let pod = &mut self.pods[at];
        if pod.fetching.is_empty() {
            return;
        }
        let which = draws.below(pod.fetching.len() as u64) as usize;
        let done = pod.fetching.swap_remove(which);
        if done.purges != pod.purges {
            return;
        }
        pod.memory.insert(done.key, done.version);
        if let Some(stamp) = done.stamp.filter(|_| pod.connected) {
            self.entries.insert(done.key, (done.version, stamp));
        }
    }

    fn step(&mut self, draws: &mut Draws, loses: bool) {
        let at = draws.below(self.pods.len() as u64) as usize;
        let key = draws.below(KEYS as u64) as usize;
        match draws.below(if loses { 100 } else { 94 }) {
            0..30 => self.ask(at, key),
            30..55 => self.fetched(at, draws),
            55..72 => self.hear(at),
            72..76 if self.pods[at].connected => self.cut(at),
            76..84 if !self.pods[at].connected => self.connect(at),
            84..88 => self.read(at),
            88 => self.purge(at, What::Url(url(key).as_slice().into())),
            89 => self.purge(at, tag(tag_of(key))),
            90 => self.purge(at, What::All),
            91..93 => self.replica = self.sides[0].clone(),
            // A new pod in the place of one that had nothing left to say.
            93 if !loses && self.pods[at].ledger.pending_count() == 0 => {
                self.pods[at] = Pod::default();
            }
            94 => self.sides[0] = self.replica.clone(),
            95 => self.sides[0] = Redis::default(),
            96..98 => {
                self.sides[1] = self.sides[0].clone();
                let other = draws.bits();
                for (at, pod) in self.pods.iter_mut().enumerate() {
                    pod.side = (other >> at & 1) as usize;
                }
            }
            98..100 => self.heal(),
            _ => {}
        }
    }

    /// One side again. Who was on the other loses its connection.
    fn heal(&mut self) {
        for at in 0..self.pods.len() {
            if self.pods[at].side == 1 {
                self.cut(at);
                self.pods[at].side = 0;
            }
        }
    }

    /// All is well for a while.
    fn settle(&mut self) {
        self.heal();
        for _ in 0..8 {
            for at in 0..self.pods.len() {
                if !self.pods[at].connected {
                    self.connect(at);
                }
                self.read(at);
                while !self.pods[at].messages.is_empty() {
                    self.hear(at);
                }
            }
        }
    }

    fn check(&self) {
        for (at, pod) in self.pods.iter().enumerate() {
            assert!(pod.ledger.is_in_step(), "pod {at} is not in step");
            for key in 0..KEYS {
                if let Some(version) = pod.memory.get(&key) {
                    let least = self.least[key];
                    assert!(
                        *version >= least,
                        "pod {at} answers {key} with {version}, purged before {least}"
                    );
                }
                if let Some((version, stamp)) = self.entries.get(&key)
                    && pod.ledger.vouches(*stamp, &url(key), [tag_of(key)])
                {
                    assert!(*version >= self.least[key], "pod {at} believes {key}");
                }
            }
        }
    }
}

fn world() -> World {
    World {
        sides: Default::default(),
        replica: Redis::default(),
        pods: (0..5).map(|_| Pod::default()).collect(),
        entries: HashMap::new(),
        versions: [1; KEYS],
        least: [1; KEYS],
        next: 0,
    }
}

#[test]
fn walk() {
    let (mut shared, mut kept) = (0_u32, 0_u32);
    walk::seeds(|draws| {
        let loses = draws.chance(0.5);
        let mut world = world();
        for _ in 0..4 {
            for _ in 0..250 {
                world.step(draws, loses);
            }
            world.settle();
            world.check();
            let pods = world.pods.iter();
            kept += pods.map(|pod| pod.memory.len() as u32).sum::<u32>();
            let believed = world.entries.iter().filter(|(key, (_, stamp))| {
                let ledger = &world.pods[0].ledger;
                ledger.vouches(*stamp, &url(**key), [tag_of(**key)])
            });
            shared += believed.count() as u32;
        }
    });
    // Flushing everything all the time would be right too, and of no use.
    assert!(shared > 100 && kept > 100, "{shared} shared, {kept} kept");
}
