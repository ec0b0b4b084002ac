//! The ring of consistent hashing: which endpoint a key belongs to, and who comes next.

use std::collections::HashMap;
use std::net::SocketAddr;

use pingora_ketama::Bucket;
use pingora_ketama::Continuum;
use pingora_ketama::Version;

use crate::endpoint::Member;

/// Weights are made smaller beyond this sum: each unit is 160 points of 8 bytes, and a ring is to stay below 10 MB.
const WEIGHT_MAX: u64 = 4096;

/// The library counts nodes in 16 bits. Endpoints beyond are not on the ring; they get what goes by no key.
const NODES_MAX: usize = 65_535;

/// A ring of the endpoints of one set.
pub struct Ring {
    continuum: Continuum,
    /// For each point of the ring, the place of its endpoint in the set.
    places: Box<[u16]>,
}

impl Ring {
    /// The ring of these endpoints.
    ///
    /// It has the points of the library's first version, which are those of nginx and memcached: pinned, because two
    /// versions give a key to different endpoints, and a fleet that is being updated is of two versions.
    #[must_use]
    pub fn new(members: &[Member]) -> Self {
        let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
        let scaled = |weight: u32| {
            if total <= WEIGHT_MAX {
                return weight.max(1);
            }
            u32::try_from(u64::from(weight) * WEIGHT_MAX / total).map_or(1, |weight| weight.max(1))
        };
        let mut place_of: HashMap<SocketAddr, u16> = HashMap::with_capacity(members.len());
        let mut buckets = Vec::with_capacity(members.len());
        for (place, member) in (0..u16::MAX).zip(members.iter().take(NODES_MAX)) {
            if place_of.insert(member.address, place).is_none() {
                buckets.push(Bucket::new(member.address, scaled(member.weight)));
            }
        }
        // Where two points meet, the order of the endpoints decides; names are resolved in a different order each time.
        buckets.sort_unstable();
        let continuum = Continuum::new_with_version(&buckets, Version::V1);
        let mut places = Vec::new();
        let mut at = 0;
        while let Some(address) = continuum.get_addr(&mut at) {
            places.push(place_of[address]);
            if at == 0 {
                break;
            }
        }
        Self {
            continuum,
            places: places.into(),
        }
    }

    /// The places of the endpoints in the order in which they come after `key`, each as often as it has points: once
    /// around.
    pub fn from<'a>(&'a self, key: &[u8]) -> impl Iterator<Item = usize> + use<'a> {
        let start = self.continuum.node_idx(key).min(self.places.len());
        let (before, after) = self.places.split_at(start);
        after.iter().chain(before).map(|place| usize::from(*place))
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("points", &self.places.len())
            .finish_non_exhaustive()
    }
}
