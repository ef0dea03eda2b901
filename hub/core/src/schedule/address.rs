//! Pod addresses: cluster-unique, given by the hub, known to nobody outside.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The network of pods (design: 10.42/16; Services have 10.43/16).
pub const PODS: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 0);
const FIRST: u32 = PODS.to_bits();
const SIZE: u32 = 1 << 16;

/// Gives out addresses in turn: a freed one comes last, so that whoever still talks to it meets
/// nobody rather than a stranger.
#[derive(Debug, Clone, Default)]
pub struct AddressPool {
    taken: BTreeSet<u32>,
    /// The offset last given out.
    last: u32,
}

impl AddressPool {
    /// A pool of which these addresses are taken. Its turn begins after the address number `start`.
    ///
    /// Hubs choose `start` anew each time: one restored from a backup does not know the pods that were
    /// started after it, which still run under the addresses that come next in the backup's turn.
    pub fn new(start: u16, taken: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let offsets = taken.into_iter().filter_map(|address| address.to_bits().checked_sub(FIRST));
        Self { taken: offsets.filter(|offset| *offset < SIZE).collect(), last: u32::from(start) }
    }

    /// The addresses taken now, keeping the place in the turn.
    pub fn set_taken(&mut self, taken: impl IntoIterator<Item = Ipv4Addr>) {
        let start = u16::try_from(self.last).expect("an offset is below SIZE, which is 65,536");
        *self = Self::new(start, taken);
    }

    /// The next free address; `None` when all 65,024 are taken.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        let after = (self.last + 1..SIZE).chain(0..=self.last);
        let offset = after.filter(|offset| is_usable(*offset)).find(|offset| !self.taken.contains(offset))?;
        self.taken.insert(offset);
        self.last = offset;
        Some(Ipv4Addr::from_bits(FIRST + offset))
    }
}

/// Not what looks like a network or a broadcast address: programs treat those specially.
fn is_usable(offset: u32) -> bool {
    !matches!(offset & 0xff, 0 | 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_come_in_turn_and_freed_ones_last() {
        let mut pool = AddressPool::new(0, []);
        assert_eq!(pool.take(), Some(address("10.42.0.1")));
        assert_eq!(pool.take(), Some(address("10.42.0.2")));
        pool.set_taken([address("10.42.0.2")]);
        assert_eq!(pool.take(), Some(address("10.42.0.3")), "10.42.0.1 was just freed");
    }

    #[test]
    fn the_turn_goes_round_and_ends() {
        let mut pool = AddressPool::new(0xfffd, [address("10.42.255.254"), address("192.168.0.1")]);
        assert_eq!(pool.take(), Some(address("10.42.0.1")));
        let rest = std::iter::from_fn(|| pool.take()).collect::<BTreeSet<_>>();
        assert_eq!(rest.len(), 65_024 - 2);
        assert!(!rest.contains(&address("10.42.7.255")) && !rest.contains(&address("10.42.8.0")));
    }
}
