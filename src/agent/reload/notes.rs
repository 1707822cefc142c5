//! What became of the configurations that were looked at lately: for status, and for whether one may be put into force.
//!
//! Takes the time as a value, reads no file and logs nothing.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::agent::live::Withdrawal;
use crate::config_file::Looks;

/// How long the files stay as they are before what they no longer have is taken away. Editors write in milliseconds,
/// a copy over the network pauses for a second or two; and who takes something away by intent waits no longer than this.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// How long it takes at the most, however often a file changes meanwhile: somebody may type in one of them, a token beside
/// them may be written anew every second, and what is taken away may be a permission that nobody should have any longer.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// What became of the configurations that were looked at lately.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// The one that was looked at last, if it is not in force.
    pub refused: Option<Refused>,
    /// One that takes something away, until its files have settled.
    pub withheld: Option<Withheld>,
    /// The upstreams that files took away though nobody had asked for a reload, until somebody does.
    pub withdrawn: Option<Withdrawn>,
}

/// A configuration that was looked at last and is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: SystemTime,
    /// Every mistake, with file, key and remedy.
    pub why: String,
}

/// A configuration that is put into force once its files have settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// Since when the files have had less in them.
    pub at: SystemTime,
    /// What it takes away.
    pub withdrawal: Withdrawal,
    /// When its files will have settled, unless they change.
    pub(super) settled_at: Instant,
    /// When nothing more is waited for.
    at_the_latest: Instant,
    files: Looks,
}

/// Upstreams that are gone because files changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// When.
    pub at: SystemTime,
    /// Their names.
    pub upstreams: Vec<String>,
}

/// Whether files have stayed as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    /// They are seen like this for the first time.
    Begins,
    /// They have been like this for a while.
    Lasts,
    /// They have been like this for long enough.
    Over,
}

impl Notes {
    /// It was looked at, and is not put into force.
    pub(super) fn refuse(&mut self, at: SystemTime, why: String) {
        self.refused = Some(Refused { at, why });
        self.withheld = None;
    }

    /// These files take something away. Whether they have been like this for long enough.
    pub(super) fn settle(
        &mut self,
        withdrawal: &Withdrawal,
        files: &Looks,
        now: (Instant, SystemTime),
    ) -> Settling {
        let (now, at) = now;
        let (at, at_the_latest) = match &self.withheld {
            Some(former) if former.at_the_latest <= now => return Settling::Over,
            Some(former) if former.files != *files => (former.at, former.at_the_latest),
            Some(former) if former.settled_at <= now => return Settling::Over,
            Some(_) => return Settling::Lasts,
            None => (at, now + SETTLED_WITHIN),
        };
        self.withheld = Some(Withheld {
            at,
            withdrawal: withdrawal.clone(),
            settled_at: at_the_latest.min(now + SETTLED_AFTER),
            at_the_latest,
            files: files.clone(),
        });
        Settling::Begins
    }

    /// It is in force, `by_itself` when nobody had asked for it; it has `upstreams`.
    pub(super) fn take(
        &mut self,
        by_itself: bool,
        withdrawal: Option<&Withdrawal>,
        upstreams: &[&str],
        at: SystemTime,
    ) {
        self.refused = None;
        self.withheld = None;
        if !by_itself {
            self.withdrawn = None;
            return;
        }
        let before = self.withdrawn.take();
        let mut gone = before
            .as_ref()
            .map_or_else(Vec::new, |before| before.upstreams.clone());
        gone.extend(withdrawal.iter().flat_map(|it| it.upstreams.clone()));
        // One that is back is not gone.
        gone.retain(|name| !upstreams.contains(&name.as_str()));
        gone.sort_unstable();
        gone.dedup();
        let is_new = withdrawal.is_some_and(|it| !it.upstreams.is_empty());
        let at = before.filter(|_| !is_new).map_or(at, |before| before.at);
        self.withdrawn = (!gone.is_empty()).then_some(Withdrawn {
            at,
            upstreams: gone,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn withdrawal(upstreams: &[&str]) -> Withdrawal {
        Withdrawal {
            upstreams: upstreams.iter().map(|name| (*name).to_owned()).collect(),
            fewer_rules: Vec::new(),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn files_settle_once_they_have_not_changed_for_long_enough() {
        let mut notes = Notes::default();
        let begin = Instant::now();
        let gone = withdrawal(&["jira"]);
        let files = |name: &str| Looks::from([(PathBuf::from(name), None)]);
        let mut settle = |name: &str, after: Duration| {
            let now = (begin + after, at(after.as_secs()));
            notes.settle(&gone, &files(name), now)
        };
        assert_eq!(settle("/a", Duration::ZERO), Settling::Begins);
        assert_eq!(settle("/a", SETTLED_AFTER / 2), Settling::Lasts);
        assert_eq!(settle("/b", SETTLED_AFTER), Settling::Begins);
        assert_eq!(settle("/b", SETTLED_AFTER * 3 / 2), Settling::Lasts);
        assert_eq!(settle("/b", SETTLED_AFTER * 2), Settling::Over);
        assert_eq!(notes.withheld.unwrap().at, at(0));
    }

    #[test]
    fn files_that_never_settle_are_not_waited_for_without_end() {
        let mut notes = Notes::default();
        let begin = Instant::now();
        let gone = withdrawal(&["jira"]);
        let mut settle = |second: u64| {
            let files = Looks::from([(PathBuf::from(second.to_string()), None)]);
            let now = (begin + Duration::from_secs(second), at(second));
            let settling = notes.settle(&gone, &files, now);
            (settling, notes.withheld.clone().unwrap().settled_at - begin)
        };
        for second in 0..30 {
            let settled_at = Duration::from_secs(30.min(second + 5));
            assert_eq!(settle(second), (Settling::Begins, settled_at));
        }
        assert_eq!(settle(30).0, Settling::Over);
    }

    #[test]
    fn what_files_took_away_is_told_until_it_is_back_or_somebody_asked() {
        let mut notes = Notes::default();
        let gone = |notes: &Notes| {
            let withdrawn = notes.withdrawn.clone();
            withdrawn.map(|it| (it.upstreams.join(" "), it.at))
        };
        notes.take(true, Some(&withdrawal(&["jira", "wiki"])), &["git"], at(1));
        assert_eq!(gone(&notes), Some(("jira wiki".to_owned(), at(1))));
        notes.take(true, None, &["git", "wiki"], at(2));
        assert_eq!(gone(&notes), Some(("jira".to_owned(), at(1))));
        notes.take(true, Some(&withdrawal(&["git"])), &["wiki"], at(3));
        assert_eq!(gone(&notes), Some(("git jira".to_owned(), at(3))));
        notes.refuse(at(4), "a mistake".to_owned());
        assert!(notes.refused.is_some() && gone(&notes).is_some());
        notes.take(false, None, &["wiki"], at(5));
        assert_eq!((gone(&notes), notes.refused), (None, None));
    }
}
