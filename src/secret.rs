//! A value that must not be shown: it prints nothing, is wiped when dropped, and compares in constant time.
//!
//! A secret becomes a [`Secret`] where it is read and stays one until the line that uses it; never
//! give it `Display`, `Serialize` or `Clone`.

use std::fmt;

use zeroize::Zeroize;

/// A value that must not be shown. See the module for the rules.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in. The caller keeps no copy.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one line that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Whether both hold the same bytes, found out in a time that depends on their length alone.
    pub fn is_same(&self, other: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_ref(), other).is_ok()
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new(String::from("hunter2"));
        assert_eq!(format!("{secret:?}"), "(secret)");
        assert_eq!(format!("{:#?}", Some(secret)), "Some(\n    (secret),\n)");
    }

    #[test]
    fn comparison_sees_every_byte() {
        let secret = Secret::new(b"abc".to_vec());
        assert!(secret.is_same(b"abc"));
        assert!(!secret.is_same(b"abd"));
        assert!(!secret.is_same(b"ab"));
    }
}
