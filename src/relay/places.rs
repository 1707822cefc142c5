//! Places for what strangers can hold open: so many in all, so many for one address, so that one who stalls
//! his own keeps nobody else out.
//!
//! A place is given back when it is dropped. Never waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::relay::network::network_of;

/// The places for one kind of thing.
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
}

/// The place of one.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    places: Arc<Places>,
}

/// Why there is no place; the text goes on where "too many …" begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("at once")]
    Full,
    #[error("at once from one address")]
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

    /// A place for one from this address.
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
}
