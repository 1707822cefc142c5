//! A secret that takes time to get: what a command prints, or a token endpoint gives.
//!
//! One fetch at a time, whoever asks, and none while nobody does. Shortly before a value is too old the
//! next one is fetched in the background; only who comes when there is none waits, and no longer than he
//! likes: the fetch goes on without him. A fetch that fails is not repeated at once; meanwhile a value that
//! is a last resort is used.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::source::Reading;
use super::{CredentialError, Renewals};
use crate::error_chain::chain;

/// After a fetch that failed none is begun for so long: calls come by the thousand, and a token endpoint
/// that is in trouble must not be asked by each.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A value is used at least for so long after it came, however short it is said to live: those who waited
/// for it must get it, or a slow endpoint with short-lived tokens would never be of use.
const LEAST_USE: Duration = Duration::from_secs(1);
/// An upstream that refuses a credential makes it be fetched anew at most so often: who has no right to
/// one page is refused there whatever the credential.
const REFUSALS_APART: Duration = Duration::from_secs(30);

/// Gets a secret, slowly.
pub(super) trait Fetch: fmt::Debug + Send + Sync {
    /// Begins. The future has a bound of its own.
    fn fetch(self: Arc<Self>) -> Fetching;
}

/// A fetch under way.
pub(super) type Fetching = Pin<Box<dyn Future<Output = Result<Fetched, CredentialError>> + Send>>;

/// What a fetch gave.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The secret.
    pub(super) reading: Reading,
    /// How long it can be used, from the beginning of the fetch.
    pub(super) life: Life,
}

/// The ages of a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    /// From this age on, the next one is fetched in the background.
    pub(super) renew_after: Duration,
    /// From this age on, callers wait for the next one.
    pub(super) good_for: Duration,
    /// Up to this age it is used when the next one cannot be had.
    pub(super) last_resort: Duration,
}

/// A secret that is fetched when it is needed, and kept.
pub(super) struct Renewed {
    what: Box<str>,
    fetch: Arc<dyn Fetch>,
    values: Values,
}

/// What there is of a secret, and the fetch under way. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(Arc<Mutex<State>>);

/// What there is of a secret now.
#[derive(Debug)]
pub(super) enum Now {
    /// It can be used.
    Ready(Arc<Reading>),
    /// It is being fetched: ask again when the fetch has ended.
    Fetching(Flight),
}

/// The end of a fetch, to be waited for.
#[derive(Debug)]
pub(super) struct Flight(watch::Receiver<()>);

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// The last fetch failed.
    failure: Option<Failure>,
    /// Ends when the sender is dropped, with the fetch.
    flight: Option<watch::Receiver<()>>,
    refused: Option<Instant>,
    renewals: Renewals,
}

#[derive(Debug)]
struct Held {
    reading: Arc<Reading>,
    life: Life,
    begun: Instant,
    landed: Instant,
    is_refused: bool,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    error: Arc<CredentialError>,
}

impl Renewed {
    /// What `fetch` gets, beginning with these values; `what` names it for people.
    pub(super) fn going_on(
        what: impl Into<Box<str>>,
        fetch: Arc<dyn Fetch>,
        values: Values,
    ) -> Arc<Self> {
        Arc::new(Self {
            what: what.into(),
            fetch,
            values,
        })
    }

    /// Its name, for people.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// What there is now. Must be called within a runtime.
    pub(super) fn now(self: &Arc<Self>) -> Result<Now, CredentialError> {
        let mut state = self.state();
        let failed_just_now = state
            .failure
            .as_ref()
            .is_some_and(|failure| failure.at.elapsed() < RETRY_AFTER);
        let age = state.held.as_ref().map(Held::age);
        if let (Some(held), Some(age)) = (&state.held, age) {
            let reading = Arc::clone(&held.reading);
            match age {
                Age::Young => return Ok(Now::Ready(reading)),
                Age::Ripe => {
                    if !failed_just_now {
                        self.begin(&mut state);
                    }
                    return Ok(Now::Ready(reading));
                }
                Age::LastResort if failed_just_now => return Ok(Now::Ready(reading)),
                Age::LastResort | Age::Over => {}
            }
        }
        match &state.failure {
            Some(failure) if failed_just_now => {
                Err(CredentialError::Fetch(Arc::clone(&failure.error)))
            }
            _ => Ok(Now::Fetching(self.begin(&mut state))),
        }
    }

    /// An upstream did not take it: the next call gets another one, if there is one.
    pub(super) fn was_refused(&self, reading: &Reading) {
        let mut state = self.state();
        let is_too_soon = state
            .refused
            .is_some_and(|refused| refused.elapsed() < REFUSALS_APART);
        let Some(held) = &mut state.held else { return };
        if is_too_soon || !std::ptr::eq(&raw const *held.reading, &raw const *reading) {
            return;
        }
        debug!(
            credential = self.what(),
            "an upstream answered 401: the credential is fetched anew"
        );
        held.is_refused = true;
        state.refused = Some(Instant::now());
    }

    /// Why the last fetch failed, while none has succeeded since; and for how long the value before is used.
    pub(super) fn failure(&self) -> Option<(Arc<CredentialError>, Duration)> {
        let state = self.state();
        let failure = state.failure.as_ref()?;
        let usable_for = state.held.as_ref().map_or(Duration::ZERO, Held::usable_for);
        Some((Arc::clone(&failure.error), usable_for))
    }

    /// Joins the fetch under way, or begins one.
    fn begin(self: &Arc<Self>, state: &mut State) -> Flight {
        // An error means that the sender has gone: that fetch is over, by a panic perhaps.
        if let Some(flight) = state.flight.as_ref().filter(|it| it.has_changed().is_ok()) {
            return Flight(flight.clone());
        }
        let (under_way, flight) = watch::channel(());
        state.flight = Some(flight.clone());
        let this = Arc::clone(self);
        // Its own task, so that it does not end with the caller who happened to begin it.
        tokio::spawn(async move {
            let begun = Instant::now();
            let fetched = Arc::clone(&this.fetch).fetch().await;
            this.landed(begun, fetched);
            drop(under_way);
        });
        Flight(flight)
    }

    fn landed(&self, begun: Instant, fetched: Result<Fetched, CredentialError>) {
        let mut state = self.state();
        let landed = Instant::now();
        match fetched {
            Ok(Fetched { reading, life }) => {
                debug!(credential = self.what(), good_for = ?life.good_for, "a credential was fetched");
                state.renewals.ok += 1;
                state.failure = None;
                state.held = Some(Held {
                    reading: Arc::new(reading),
                    life,
                    begun,
                    landed,
                    is_refused: false,
                });
            }
            Err(error) => {
                warn!(credential = self.what(), error = %chain(&error), "a credential could not be fetched");
                state.renewals.failed += 1;
                state.failure = Some(Failure {
                    at: landed,
                    error: Arc::new(error),
                });
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.values.state()
    }
}

impl Values {
    /// The same values under a new configuration, in which a fetch that failed may succeed: it is tried at once.
    pub(super) fn taken_over(&self) -> Self {
        self.state().failure = None;
        self.clone()
    }

    /// How often they were fetched.
    pub(super) fn renewals(&self) -> Renewals {
        self.state().renewals
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Flight {
    /// Waits until the fetch has ended. Cancel-safe.
    pub(super) async fn landed(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// What can be done with a value.
enum Age {
    /// It is used.
    Young,
    /// It is used, and the next one is fetched.
    Ripe,
    /// It is used when there is no other.
    LastResort,
    /// It is not used.
    Over,
}

impl Held {
    fn usable_for(&self) -> Duration {
        let age = self.begun.elapsed();
        self.life.last_resort.saturating_sub(age)
    }

    fn age(&self) -> Age {
        let age = self.begun.elapsed();
        let has_been_of_use = self.landed.elapsed() >= LEAST_USE;
        if !self.is_refused && (age < self.life.renew_after || !has_been_of_use) {
            Age::Young
        } else if !self.is_refused && age < self.life.good_for {
            Age::Ripe
        } else if age < self.life.last_resort {
            Age::LastResort
        } else {
            Age::Over
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use tokio::time::{advance, sleep};

    use super::*;
    use crate::secret::Secret;

    const SECOND: Duration = Duration::from_secs(1);
    const LIFE: Life = Life {
        renew_after: Duration::from_secs(75),
        good_for: Duration::from_secs(100),
        last_resort: Duration::from_secs(200),
    };

    /// Gives "1", then "2", and so on, each after a second.
    #[derive(Debug, Default)]
    struct Counter {
        fetches: AtomicU32,
        fails: AtomicBool,
    }

    impl Fetch for Counter {
        fn fetch(self: Arc<Self>) -> Fetching {
            Box::pin(async move {
                let number = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
                sleep(SECOND).await;
                if self.fails.load(Ordering::Relaxed) {
                    return Err(CredentialError::NoVariable("X".to_owned()));
                }
                let value = Secret::new(number.to_string().into_bytes());
                let reading = Reading::new(&value, "a test")?;
                Ok(Fetched {
                    reading,
                    life: LIFE,
                })
            })
        }
    }

    async fn value(renewed: &Arc<Renewed>) -> Result<Arc<Reading>, CredentialError> {
        loop {
            match renewed.now()? {
                Now::Ready(reading) => return Ok(reading),
                Now::Fetching(mut flight) => flight.landed().await,
            }
        }
    }

    async fn text(renewed: &Arc<Renewed>) -> String {
        let reading = value(renewed).await.unwrap();
        String::from_utf8(reading.expose().to_vec()).unwrap()
    }

    fn renewed() -> (Arc<Counter>, Arc<Renewed>) {
        let counter = Arc::new(Counter::default());
        let renewed = Renewed::going_on("a test", Arc::clone(&counter) as _, Values::default());
        (counter, renewed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_callers_share_one_fetch_and_nobody_needs_to_stay_for_it() {
        let (counter, renewed) = renewed();
        let impatient = tokio::time::timeout(SECOND / 2, value(&renewed));
        assert!(impatient.await.is_err());
        let all = (0..100).map(|_| {
            let renewed = Arc::clone(&renewed);
            tokio::spawn(async move { text(&renewed).await })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), "1");
        }
        assert_eq!(counter.fetches.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_callers_who_find_it_too_old_share_one_fetch_too() {
        let (counter, renewed) = renewed();
        assert_eq!(text(&renewed).await, "1");
        advance(LIFE.last_resort).await;
        let all = (0..100).map(|_| {
            let renewed = Arc::clone(&renewed);
            tokio::spawn(async move { text(&renewed).await })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), "2");
        }
        assert_eq!(counter.fetches.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_is_fetched_before_the_last_is_too_old() {
        let (_, renewed) = renewed();
        assert_eq!(text(&renewed).await, "1");
        advance(70 * SECOND).await;
        assert_eq!(text(&renewed).await, "1");
        advance(10 * SECOND).await;
        let begun = Instant::now();
        assert_eq!(text(&renewed).await, "1");
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits");
        sleep(2 * SECOND).await;
        assert_eq!(text(&renewed).await, "2");
        // After a long silence the old one is not used, whatever it costs.
        advance(150 * SECOND).await;
        assert_eq!(text(&renewed).await, "3");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_leaves_the_last_good_value_for_a_bounded_time() {
        let (counter, renewed) = renewed();
        assert_eq!(text(&renewed).await, "1");
        counter.fails.store(true, Ordering::Relaxed);
        advance(110 * SECOND).await;
        assert_eq!(text(&renewed).await, "1");
        let (_, usable_for) = renewed.failure().unwrap();
        let left = LIFE.last_resort - 110 * SECOND;
        assert!(usable_for <= left && usable_for + 5 * SECOND >= left);
        let fetches = counter.fetches.load(Ordering::Relaxed);
        assert_eq!(text(&renewed).await, "1");
        assert_eq!(
            counter.fetches.load(Ordering::Relaxed),
            fetches,
            "not at once"
        );
        advance(100 * SECOND).await;
        assert!(value(&renewed).await.is_err());
        assert_eq!(renewed.failure().unwrap().1, Duration::ZERO);
        counter.fails.store(false, Ordering::Relaxed);
        assert!(value(&renewed).await.is_err(), "not at once");
        advance(RETRY_AFTER).await;
        assert_eq!(text(&renewed).await, (fetches + 2).to_string());
        assert!(renewed.failure().is_none());
        let Renewals { ok, failed } = renewed.values.renewals();
        assert_eq!((ok, failed), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_one_is_fetched_anew_once() {
        let (_, renewed) = renewed();
        let first = value(&renewed).await.unwrap();
        advance(2 * SECOND).await;
        renewed.was_refused(&first);
        let second = value(&renewed).await.unwrap();
        assert_eq!(second.expose(), b"2");
        // A call that was under way with the first says nothing about the second.
        advance(REFUSALS_APART).await;
        renewed.was_refused(&first);
        assert_eq!(text(&renewed).await, "2");
        renewed.was_refused(&second);
        let third = value(&renewed).await.unwrap();
        assert_eq!(third.expose(), b"3");
        advance(2 * SECOND).await;
        renewed.was_refused(&third);
        assert_eq!(text(&renewed).await, "3", "refused whatever the credential");
    }
}
