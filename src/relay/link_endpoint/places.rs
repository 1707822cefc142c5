//! Places for handshakes of agents that have not proven who they are: so many in all, so many for one
//! address, so that a stranger who stalls his own keeps nobody else out.
//!
//! A place is given back when it is dropped: at the proof, or with the handshake. Never waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::relay::network::network_of;

/// How often the log says that agents are turned away: strangers must not fill it.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The places of one relay.
#[derive(Debug)]
pub(super) struct Places {
    in_all: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    /// Only of addresses that have any: no longer than `in_all`.
    by_address: HashMap<IpAddr, usize>,
    said: Option<Instant>,
    unsaid: u64,
}

/// A handshake's place.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    places: Arc<Places>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("too many agents are linking at once")]
    Full,
    #[error("too many agents are linking at once from one address")]
    AddressFull,
}

impl Places {
    pub(super) fn new(in_all: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            in_all,
            per_address,
            taken: Mutex::default(),
        })
    }

    /// A place for a handshake from this address.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, NoPlace> {
        let address = network_of(address);
        let mut taken = self.taken();
        let own = taken.by_address.get(&address).copied().unwrap_or_default();
        if own >= self.per_address {
            return Err(NoPlace::AddressFull);
        }
        if taken.in_all >= self.in_all {
            return Err(NoPlace::Full);
        }
        taken.in_all += 1;
        taken.by_address.insert(address, own + 1);
        Ok(Place {
            address,
            places: Arc::clone(self),
        })
    }

    /// Counts one that was turned away; the number since the log said so last, when it is time to say it again.
    pub(super) fn turned_away(&self, now: Instant) -> Option<u64> {
        let mut taken = self.taken();
        taken.unsaid += 1;
        let is_time = taken
            .said
            .is_none_or(|said| now.saturating_duration_since(said) >= SAY_AGAIN_AFTER);
        is_time.then(|| {
            taken.said = Some(now);
            std::mem::take(&mut taken.unsaid)
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.in_all = taken.in_all.saturating_sub(1);
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(number).into()
    }

    #[test]
    fn one_address_has_its_share_and_leaves_the_others_theirs() {
        let places = Places::new(5, 3);
        let held: Vec<_> = (0..3).map(|_| places.take(address(1)).unwrap()).collect();
        assert_eq!(places.take(address(1)).unwrap_err(), NoPlace::AddressFull);
        let other = places.take(address(2)).unwrap();
        drop(held);
        assert!(places.take(address(1)).is_ok());
        drop(other);
    }

    #[test]
    fn all_together_have_no_more_than_there_are() {
        let places = Places::new(5, 3);
        let mut held: Vec<_> = (0..5)
            .map(|number| places.take(address(number)).unwrap())
            .collect();
        assert_eq!(places.take(address(9)).unwrap_err(), NoPlace::Full);
        held.pop();
        assert!(places.take(address(9)).is_ok());
    }

    #[test]
    fn an_address_that_has_no_place_is_not_remembered() {
        let places = Places::new(5, 3);
        for number in 0..1_000 {
            drop(places.take(address(number)).unwrap());
        }
        assert!(places.taken().by_address.is_empty());
        assert_eq!(places.taken().in_all, 0);
    }

    #[test]
    fn the_log_says_it_now_and_then_with_the_number_since() {
        let places = Places::new(0, 0);
        let begin = Instant::now();
        assert_eq!(places.turned_away(begin), Some(1));
        for _ in 0..5 {
            assert_eq!(places.turned_away(begin), None);
        }
        assert_eq!(places.turned_away(begin + SAY_AGAIN_AFTER), Some(6));
    }
}
