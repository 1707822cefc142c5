//! The end of a log file, read back: how far its chain has come, and what stands after the last whole line.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::agent::audit::chain::{self, Hash, Head, MAX_LINE};

/// As much of a file's end is looked at, if the smaller has no whole line. A power cut tears what was
/// written since the last sync, one second's lines.
const WINDOWS: [usize; 2] = [64 * 1024, 4 * 1024 * 1024];
/// A first line is read in pieces of this size: most are shorter.
const PIECE: usize = 4 * 1024;

/// What is at the end of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent::audit) enum Tail {
    /// The file is empty.
    Empty,
    /// A whole line.
    Whole(Head),
    /// Something that is not whole.
    Torn(Torn),
    /// So much that is not whole that the file is not taken for a log.
    Foreign,
}

/// What stands after the last whole line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent::audit) struct Torn {
    /// The chain up to the last whole line.
    pub head: Head,
    /// How much it is.
    pub bytes: u64,
    /// Its hash.
    pub hash: Hash,
    /// Whether it ends with a line break.
    pub is_terminated: bool,
}

/// The tail of a file of this length.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(file: &File, length: u64) -> io::Result<Tail> {
    if length == 0 {
        return Ok(Tail::Empty);
    }
    let mut tail = Tail::Foreign;
    for window in WINDOWS {
        tail = read_window(file, length, window)?;
        if tail != Tail::Foreign {
            break;
        }
    }
    Ok(tail)
}

fn read_window(file: &File, length: u64, window: usize) -> io::Result<Tail> {
    let begin = length.saturating_sub(window as u64);
    let mut window = vec![0; usize::try_from(length - begin).unwrap_or(window)];
    file.read_exact_at(&mut window, begin)?;
    let mut end = window.len();
    let mut head = None;
    while end > 0 {
        let before = window[..end - 1].iter().rposition(|byte| *byte == b'\n');
        let line_begin = before.map_or(0, |at| at + 1);
        if window[end - 1] == b'\n'
            && let Ok(sealed) = chain::read(&window[line_begin..end - 1])
        {
            head = Some(sealed.head);
            break;
        }
        end = line_begin;
    }
    let torn = &window[end..];
    Ok(match head {
        Some(head) if torn.is_empty() => Tail::Whole(head),
        None if begin > 0 => Tail::Foreign,
        // Without a whole line, the first of a chain is torn.
        head => Tail::Torn(Torn {
            head: head.unwrap_or(Head::BEGINNING),
            bytes: torn.len() as u64,
            hash: Hash::of(torn),
            is_terminated: torn.ends_with(b"\n"),
        }),
    })
}

/// The time in a file's first line, when it has a whole one.
///
/// # Errors
/// When it cannot be read.
pub(super) fn first_time(file: &File) -> io::Result<Option<String>> {
    let mut window = Vec::new();
    while window.len() < MAX_LINE && !window.contains(&b'\n') {
        let filled = window.len();
        window.resize(filled + PIECE, 0);
        let count = file.read_at(&mut window[filled..], filled as u64)?;
        window.truncate(filled + count);
        if count == 0 {
            break;
        }
    }
    let line = window.split(|byte| *byte == b'\n').next();
    let sealed = line.and_then(|line| chain::read(line).ok());
    Ok(sealed.map(|sealed| sealed.time))
}
