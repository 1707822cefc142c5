//! How many redemptions are tried: a bound for each address and one for all, so that nobody can make
//! the relay check signatures all day.
//!
//! Guessing a code is hopeless whatever the rate; this protects the disk and the processor. Pure: takes
//! the time as a value. Behind a load balancer all requests come from its address: the bound for one
//! address is wide enough for a roll-out of agents.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::relay::network::network_of;

/// Redemptions of one address at once, before its rate counts.
const ADDRESS_BURST: f64 = 30.0;
/// Redemptions of one address a second, in the long run.
const ADDRESS_RATE: f64 = 1.0;
/// Redemptions of everyone at once; each costs at most about 1 ms.
const TOTAL_BURST: f64 = 200.0;
/// Redemptions of everyone a second, in the long run.
const TOTAL_RATE: f64 = 50.0;
/// Addresses that are remembered. Beyond it, those that are back at full are forgotten.
const ADDRESSES: usize = 4096;

/// Counts redemptions.
#[derive(Debug)]
pub(super) struct RedeemLimit {
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    total: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl RedeemLimit {
    pub(super) fn new() -> Self {
        Self {
            buckets: Mutex::new(Buckets {
                total: Bucket {
                    left: TOTAL_BURST,
                    at: Instant::now(),
                },
                by_address: HashMap::new(),
            }),
        }
    }

    /// Counts one redemption from this address.
    ///
    /// # Errors
    /// When there were too many: how long to wait.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { total, by_address } = &mut *buckets;
        let address = network_of(address);
        if by_address.len() >= ADDRESSES && !by_address.contains_key(&address) {
            by_address.retain(|_, bucket| {
                bucket.refill(now, ADDRESS_RATE, ADDRESS_BURST);
                bucket.left < ADDRESS_BURST
            });
            if by_address.len() >= ADDRESSES {
                return Err(Duration::from_secs_f64(1.0 / ADDRESS_RATE));
            }
        }
        let own = by_address.entry(address).or_insert(Bucket {
            left: ADDRESS_BURST,
            at: now,
        });
        own.refill(now, ADDRESS_RATE, ADDRESS_BURST);
        total.refill(now, TOTAL_RATE, TOTAL_BURST);
        if own.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - own.left) / ADDRESS_RATE));
        }
        if total.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - total.left) / TOTAL_RATE));
        }
        own.left -= 1.0;
        total.left -= 1.0;
        Ok(())
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant, rate: f64, burst: f64) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = elapsed.mul_add(rate, self.left).min(burst);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(number).into()
    }

    fn taken(limit: &RedeemLimit, address: IpAddr, now: Instant) -> usize {
        (0..1_000)
            .take_while(|_| limit.take(address, now).is_ok())
            .count()
    }

    #[test]
    fn one_address_is_bounded_and_recovers() {
        let limit = RedeemLimit::new();
        let now = Instant::now();
        assert_eq!(taken(&limit, address(1), now), 30);
        assert!(limit.take(address(2), now).is_ok());
        let wait = limit.take(address(1), now).unwrap_err();
        assert!(limit.take(address(1), now + wait).is_ok());
    }

    #[test]
    fn all_addresses_together_are_bounded() {
        let limit = RedeemLimit::new();
        let now = Instant::now();
        let total: usize = (0..100).map(|n| taken(&limit, address(n), now)).sum();
        assert_eq!(total, 200);
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let limit = RedeemLimit::new();
        let now = Instant::now();
        taken(&limit, address(1), now);
        for _ in 0..1_000 {
            assert!(limit.take(address(1), now).is_err());
        }
        let later = now + Duration::from_secs(5);
        assert_eq!(taken(&limit, address(1), later), 5);
    }

    #[test]
    fn memory_is_bounded_however_many_addresses_come() {
        let limit = RedeemLimit::new();
        let mut now = Instant::now();
        for number in 0..20_000 {
            let _ = limit.take(address(number), now);
            now += Duration::from_millis(10);
        }
        let buckets = limit.buckets.lock().unwrap();
        assert!(buckets.by_address.len() <= ADDRESSES);
    }
}
