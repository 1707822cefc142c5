//! Checks a chain from its first line to its last, a line at a time: offline, of any length.
//!
//! Finds every change, cut and gap but one: lines missing at the very end. For these its last line is to
//! be compared with what `agent status`, the agent's own log or a further target say.

use std::io::{self, BufRead, Read as _};

use super::chain::{self, Flaw, Hash, Head, Kind, MAX_LINE, Sealed};

/// The most bytes that are taken for torn; what a crash leaves is less.
const MAX_TORN: usize = 4 * 1024 * 1024;

/// Checks a chain, file by file.
#[derive(Debug, Default)]
pub struct Verifier {
    /// The chain so far.
    head: Option<Head>,
    first: Option<u64>,
    lines: u64,
    torn_lines: u64,
    pruned: Option<u64>,
    /// What is not whole and waits for a line that tells of it; with the number of its first line in the file.
    torn: Option<(u64, Vec<u8>, Flaw)>,
}

/// What a chain is, when nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Its last line.
    pub head: Head,
    /// The number of its first line.
    pub first: u64,
    /// How many lines there are.
    pub lines: u64,
    /// Up to which line earlier files were removed by rotation, as the chain itself says.
    pub pruned: Option<u64>,
    /// How often a crash left something that is not whole, and a line tells of it.
    pub torn: u64,
}

/// What is wrong with a chain, at the first place where something is.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    /// A line is not whole.
    #[error("line {line} {flaw}")]
    Flawed {
        /// Counted from one within its file.
        line: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The last line has no end: a crash, a cut, or it is being written at this moment.
    #[error("line {line}, the last, is not finished")]
    Unfinished {
        /// Counted from one within its file.
        line: u64,
    },
    /// Lines are missing.
    #[error("line {line} has number {found} and follows number {last}: {} missing before it", missing(*.last, *.found))]
    Gap {
        /// Counted from one within its file.
        line: u64,
        /// The number of the line before.
        last: u64,
        /// Its own number.
        found: u64,
    },
    /// A line has the right number, and does not belong to the line before.
    #[error(
        "line {line} (number {number}) does not belong to the line before: one of them was replaced"
    )]
    Broken {
        /// Counted from one within its file.
        line: u64,
        /// Its number.
        number: u64,
    },
    /// The chain begins later than it says it does.
    #[error(
        "the log begins with number {first}, and no line says that those before were removed by rotation"
    )]
    BeginningMissing {
        /// The number of the first line.
        first: u64,
    },
    /// There is no line.
    #[error("there is no line")]
    Empty,
    /// The file cannot be read.
    #[error("it cannot be read")]
    Io(#[source] io::Error),
}

fn missing(last: u64, found: u64) -> String {
    match found.checked_sub(last + 1) {
        Some(1) => "one line is".to_owned(),
        Some(count) if count > 0 => format!("{count} lines are"),
        _ => "lines are repeated, or".to_owned(),
    }
}

impl Verifier {
    /// The number of the first whole line of a file, by which files are put in order; the greatest when
    /// there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn first_of(mut lines: impl BufRead) -> io::Result<u64> {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            if read_line(&mut lines, &mut buffer)? == 0 {
                return Ok(u64::MAX);
            }
            let line = buffer.strip_suffix(b"\n").unwrap_or(&buffer);
            if let Ok(sealed) = chain::read(line) {
                return Ok(sealed.head.sequence);
            }
        }
    }

    /// Follows the chain through one file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn file(&mut self, mut lines: impl BufRead) -> Result<(), Finding> {
        let mut buffer = Vec::new();
        let mut number = 0;
        loop {
            number += 1;
            buffer.clear();
            let mut bounded = (&mut lines).take(MAX_LINE as u64 + 1);
            bounded
                .read_until(b'\n', &mut buffer)
                .map_err(Finding::Io)?;
            if buffer.is_empty() {
                break;
            }
            self.line(number, &buffer)?;
        }
        match self.torn.take() {
            None => Ok(()),
            Some((line, torn, _)) if !torn.ends_with(b"\n") => Err(Finding::Unfinished { line }),
            Some((line, _, flaw)) => Err(Finding::Flawed { line, flaw }),
        }
    }

    /// What was found when every file has been followed. `from_the_beginning`: whether the first file
    /// must be the first that rotation left.
    ///
    /// # Errors
    /// When there is no line, or the beginning is missing.
    pub fn finish(self, from_the_beginning: bool) -> Result<Verified, Finding> {
        let (Some(head), Some(first)) = (self.head, self.first) else {
            return Err(Finding::Empty);
        };
        // Fewer may be removed yet than the line says that was written before.
        let removed = self.pruned.unwrap_or_default();
        let is_beginning = first <= removed.saturating_add(1);
        if from_the_beginning && !is_beginning {
            return Err(Finding::BeginningMissing { first });
        }
        Ok(Verified {
            head,
            first,
            lines: self.lines,
            pruned: self.pruned,
            torn: self.torn_lines,
        })
    }

    /// One line with its line break, or what stands where one should.
    fn line(&mut self, number: u64, line: &[u8]) -> Result<(), Finding> {
        let sealed = match line.strip_suffix(b"\n") {
            Some(line) => chain::read(line),
            None => Err(Flaw::NoHash),
        };
        match (sealed, self.torn.take()) {
            (Ok(sealed), None) => self.follow(number, &sealed),
            (Ok(sealed), Some((at, torn, flaw))) => {
                if !tells_of(&sealed.kind, &torn) {
                    return Err(Finding::Flawed { line: at, flaw });
                }
                self.torn_lines += 1;
                self.follow(number, &sealed)
            }
            (Err(flaw), torn) => {
                let (at, mut torn, flaw) = torn.unwrap_or((number, Vec::new(), flaw));
                torn.extend_from_slice(line);
                if torn.len() > MAX_TORN {
                    return Err(Finding::Flawed { line: at, flaw });
                }
                self.torn = Some((at, torn, flaw));
                Ok(())
            }
        }
    }

    fn follow(&mut self, line: u64, sealed: &Sealed) -> Result<(), Finding> {
        let found = sealed.head.sequence;
        let before = match self.head {
            Some(head) => head,
            // The first line of a chain has nothing before it; of any other first line that is not known.
            None if found == 1 => Head::BEGINNING,
            None => Head {
                sequence: found.wrapping_sub(1),
                hash: sealed.previous,
            },
        };
        if before.sequence.wrapping_add(1) != found || found == 0 {
            let last = before.sequence;
            return Err(Finding::Gap { line, last, found });
        }
        if !before.is_followed_by(sealed) {
            let number = found;
            return Err(Finding::Broken { line, number });
        }
        if let Kind::Pruned { through } = sealed.kind {
            self.pruned = self.pruned.max(Some(through));
        }
        self.head = Some(sealed.head);
        self.first.get_or_insert(found);
        self.lines += 1;
        Ok(())
    }
}

/// Reads a line with its line break, or as much as the longest has.
fn read_line(lines: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<usize> {
    lines.take(MAX_LINE as u64 + 1).read_until(b'\n', buffer)
}

/// Whether a line tells of exactly what stands before it.
fn tells_of(kind: &Kind, torn: &[u8]) -> bool {
    let Kind::Torn { bytes, hash } = kind else {
        return false;
    };
    // A line break was put behind what had none.
    let candidates = [Some(torn), torn.strip_suffix(b"\n")];
    candidates
        .into_iter()
        .flatten()
        .any(|torn| torn.len() as u64 == *bytes && Hash::of(torn) == *hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../tests/vectors/audit/chain.jsonl");

    #[test]
    fn a_whole_log_is_found_whole_also_over_several_files() {
        let whole = verify(&[GOLDEN]).unwrap();
        assert_eq!((whole.first, whole.lines, whole.torn), (1, 8, 1));
        assert_eq!(whole.pruned, Some(3));
        let at = end_of_line(3);
        assert_eq!(verify(&[&GOLDEN[..at], &GOLDEN[at..]]).unwrap(), whole);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let [first, second, third] = [1, 2, 3].map(end_of_line);
        let cut = [&GOLDEN[..first], &GOLDEN[second..]].concat();
        assert!(matches!(
            verify(&[&cut]),
            Err(Finding::Gap {
                line: 2,
                last: 1,
                found: 3
            })
        ));
        let missing_file = verify(&[&GOLDEN[..first], &GOLDEN[second..]]);
        assert!(matches!(
            missing_file,
            Err(Finding::Gap {
                line: 1,
                last: 1,
                found: 3
            })
        ));
        assert!(matches!(
            verify(&[&GOLDEN[first..second]]),
            Err(Finding::BeginningMissing { first: 2 })
        ));
        let swapped = [
            &GOLDEN[..first],
            &GOLDEN[second..third],
            &GOLDEN[first..second],
        ]
        .concat();
        assert!(matches!(verify(&[&swapped]), Err(Finding::Gap { .. })));
        let unfinished = &GOLDEN[..first + 10];
        assert!(matches!(
            verify(&[unfinished]),
            Err(Finding::Unfinished { line: 2 })
        ));
        assert!(matches!(verify(&[b""]), Err(Finding::Empty)));
    }

    #[test]
    fn files_that_rotation_removed_are_not_missed_when_the_log_says_so() {
        let after = &GOLDEN[end_of_line(3)..];
        let whole = verify(&[after]).unwrap();
        assert_eq!((whole.first, whole.pruned), (4, Some(3)));
        let killed_in_between = verify(&[&GOLDEN[end_of_line(2)..]]).unwrap();
        assert_eq!(killed_in_between.first, 3);
        let more = &GOLDEN[end_of_line(4)..];
        assert!(matches!(
            verify(&[more]),
            Err(Finding::BeginningMissing { first: 5 }) | Err(Finding::Flawed { .. })
        ));
    }

    #[test]
    fn another_line_with_the_right_number_does_not_belong() {
        let mut other = Vec::new();
        let fields = crate::agent::audit::line::Fields::Pruned {
            through: 0,
            files: 0,
        };
        Head::BEGINNING.seal("t", &fields, &mut other).unwrap();
        let replaced = [&other, &GOLDEN[end_of_line(1)..]].concat();
        assert!(matches!(
            verify(&[&replaced]),
            Err(Finding::Broken { line: 2, number: 2 })
        ));
    }

    /// A change of bytes of a log.
    #[derive(Debug, Clone)]
    enum Change {
        Set(usize, u8),
        Insert(usize, u8),
        Cut(usize, usize),
        Copy(usize, usize, usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let at = 0..GOLDEN.len();
        prop_oneof![
            (at.clone(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
            (at.clone(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
            (at, 1..3000_usize).prop_map(|(at, count)| Change::Cut(at, count)),
            // Whole lines, which are whole by themselves.
            (0..8_usize, 1..8_usize).prop_map(|(line, count)| {
                let end = end_of_line((line + count).min(8));
                Change::Cut(end_of_line(line), end - end_of_line(line))
            }),
            (0..8_usize, 1..=8_usize, 0..=8_usize).prop_map(|(from, to, at)| {
                let (from, to) = (end_of_line(from), end_of_line(to));
                Change::Copy(from.min(to), to.max(from), end_of_line(at))
            }),
        ]
    }

    fn changed(mut bytes: Vec<u8>, change: &Change) -> Vec<u8> {
        let length = bytes.len();
        match *change {
            Change::Set(at, byte) if at < length => bytes[at] = byte,
            Change::Insert(at, byte) if at <= length => bytes.insert(at, byte),
            Change::Cut(at, count) if at < length => drop(bytes.drain(at..length.min(at + count))),
            Change::Copy(from, to, at) if to <= length && at <= length => {
                let copied = bytes[from..to].to_vec();
                bytes.splice(at..at, copied);
            }
            Change::Set(..) | Change::Insert(..) | Change::Cut(..) | Change::Copy(..) => {}
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn every_change_is_found_but_lines_cut_off_the_end(
            changes in proptest::collection::vec(change(), 1..5),
        ) {
            let bytes = changes.iter().fold(GOLDEN.to_vec(), changed);
            // Without lines that the log itself says rotation has removed, it is as whole as with them.
            let is_cut_at_a_line = (0..=8).map(end_of_line).any(|end| {
                let says_so = if end >= end_of_line(6) { 3 } else { 0 };
                (0..=says_so).map(end_of_line).any(|begin| {
                    end >= begin && bytes == GOLDEN[begin..end]
                })
            });
            match verify(&[&bytes]) {
                Ok(_) => prop_assert!(is_cut_at_a_line, "{changes:?}"),
                Err(Finding::Empty) => prop_assert!(bytes.is_empty()),
                Err(_) => prop_assert!(!is_cut_at_a_line || bytes.len() < GOLDEN.len()),
            }
        }
    }

    /// Where the line with this number ends, and what is torn after it does not count.
    fn end_of_line(number: usize) -> usize {
        let breaks = GOLDEN
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n');
        // What is torn stands between the fourth and the fifth.
        let skipped = usize::from(number > 4);
        match number {
            0 => 0,
            number => breaks
                .map(|(at, _)| at + 1)
                .nth(number - 1 + skipped)
                .unwrap(),
        }
    }

    fn verify(files: &[&[u8]]) -> Result<Verified, Finding> {
        let mut verifier = Verifier::default();
        for file in files {
            verifier.file(*file)?;
        }
        verifier.finish(true)
    }
}
