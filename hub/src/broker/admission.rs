//! How many connections may be at the door, so that idle peers never lock out the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// TLS handshakes at once. A thousand nodes that come back together are through in 2 s with this
/// (measured); each handshake holds about 30 KB.
const HANDSHAKES_MAX: usize = 512;
/// From one address: a plant's nodes share one behind NAT, and one address must not take every place.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 256;
/// Two connections each for the 10,000 nodes of design section 10, and some.
const CONNECTIONS_MAX: usize = 25_000;

#[derive(Default)]
pub(super) struct Door {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    handshakes: HashMap<IpAddr, usize>,
}

impl Counts {
    fn has_room(&self, address: IpAddr) -> bool {
        self.connections < CONNECTIONS_MAX
            && self.handshakes.values().sum::<usize>() < HANDSHAKES_MAX
            && self.handshakes.get(&address).copied().unwrap_or(0) < HANDSHAKES_PER_ADDRESS_MAX
    }
}

/// A place at the door; gives itself back.
pub(super) struct Handshake {
    door: Arc<Door>,
    address: IpAddr,
}

/// A place inside; gives itself back.
pub(super) struct Connection {
    door: Arc<Door>,
}

impl Door {
    /// `None`: it is full; whoever knocks comes again.
    pub(super) fn knock(self: &Arc<Self>, address: IpAddr) -> Option<(Handshake, Connection)> {
        let mut counts = self.lock();
        if !counts.has_room(address) {
            return None;
        }
        counts.connections += 1;
        *counts.handshakes.entry(address).or_default() += 1;
        Some((Handshake { door: self.clone(), address }, Connection { door: self.clone() }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut counts = self.door.lock();
        if let Some(count) = counts.handshakes.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.handshakes.remove(&self.address);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.door.lock().connections -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_for_others() {
        let door = Arc::new(Door::default());
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut places: Vec<_> = std::iter::from_fn(|| door.knock(one)).collect();
        assert_eq!(places.len(), HANDSHAKES_PER_ADDRESS_MAX);
        places.extend(std::iter::from_fn(|| door.knock(two)));
        assert_eq!(places.len(), HANDSHAKES_MAX);
        // Handshakes done, connections kept: the door is free again.
        let inside: Vec<_> = places.into_iter().map(|(_, connection)| connection).collect();
        assert!(door.knock(one).is_some());
        drop(inside);
        assert_eq!(door.lock().connections, 0);
    }
}
