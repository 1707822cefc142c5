//! An error with all its causes on one line: `could not a: b: c`.
//!
//! Printed once, at the edge: by a program's last words or a log line. An error's own `Display` never
//! repeats its source; one that merely wraps its source without words of its own is left out here.

use std::error::Error;
use std::fmt;

/// How many causes are followed at most, so that an error which is its own cause ends.
const MAX_CAUSES: usize = 16;

/// Shows `error` and its causes, joined by colons.
#[must_use]
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    Chain(error)
}

struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let mut next = self.0.source();
        for _ in 0..MAX_CAUSES {
            let Some(cause) = next else {
                break;
            };
            let text = cause.to_string();
            if text != shown {
                write!(f, ": {text}")?;
                shown = text;
            }
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("could not open the store")]
        Store(#[source] Box<Self>),
        #[error(transparent)]
        Bare(Box<Self>),
        #[error("could not read \"x\"")]
        Read(#[source] std::io::Error),
    }

    #[test]
    fn causes_follow_one_another_and_none_is_said_twice() {
        let error = std::io::Error::other("disk on fire");
        let error = Outer::Store(Box::new(Outer::Bare(Box::new(Outer::Read(error)))));
        assert_eq!(
            chain(&error).to_string(),
            "could not open the store: could not read \"x\": disk on fire"
        );
    }
}
