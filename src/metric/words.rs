//! Counters by the words of a fixed table. What is not in it counts as the table's last word.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter for each of `N` words.
#[derive(Debug)]
pub struct Words<const N: usize> {
    words: &'static [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Words<N> {
    /// Counters for these words; the last one is for all others.
    #[must_use]
    pub const fn new(words: &'static [&'static str; N]) -> Self {
        Self {
            words,
            counts: [const { AtomicU64::new(0) }; N],
        }
    }

    /// Counts one.
    pub fn record(&self, word: &str) {
        let known = self.words.iter().position(|known| *known == word);
        if let Some(count) = self.counts.get(known.unwrap_or(N.saturating_sub(1))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The words that were counted at all, with how often.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(|it| it.load(Ordering::Relaxed));
        let all = self.words.iter().copied().zip(counts);
        all.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_counts_as_the_last_one() {
        let words = Words::new(&["one", "other"]);
        for word in ["one", "two", "three"] {
            words.record(word);
        }
        let counted: Vec<_> = words.counted().collect();
        assert_eq!(counted, [("one", 1), ("other", 2)]);
    }
}
