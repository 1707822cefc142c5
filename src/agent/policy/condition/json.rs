//! A body as JSON, where all programs read the same in it.
//!
//! Parsers differ in what they do with a name that stands twice, a byte order mark, what follows the end, lone
//! surrogates, deep nesting. A body with any of it is not read at all.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The deepest nesting: that of the strictest parser in wide use (.NET's `System.Text.Json`).
const MAX_DEPTH: usize = 64;

/// The largest number that JavaScript, and all who keep numbers as it does, can tell from its neighbours.
const MAX_EXACT: u64 = (1 << 53) - 1;

/// A value of a body.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    /// Written without fraction and exponent, and small enough that no program rounds it.
    Integer(i64),
    /// Every other number, which programs round as they like.
    Number(f64),
    Text(String),
    Array(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// What a body says; nothing if programs could read it differently.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let value = Depth(0).deserialize(&mut deserializer).ok()?;
        deserializer.end().ok()?;
        Some(value)
    }
}

/// A whole number as programs see it who keep it in a double.
#[expect(clippy::cast_precision_loss, reason = "that is what it is for")]
pub(super) const fn rounded(number: i64) -> f64 {
    number as f64
}

/// Reads one value at this depth.
#[derive(Clone, Copy)]
struct Depth(usize);

impl Depth {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.0 < MAX_DEPTH {
            true => Ok(Self(self.0 + 1)),
            false => Err(E::custom("too deep")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Json, E> {
        Ok(Json::Boolean(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Json, E> {
        Ok(match number.unsigned_abs() <= MAX_EXACT {
            true => Json::Integer(number),
            false => Json::Number(rounded(number)),
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        #[expect(clippy::cast_precision_loss, reason = "programs round it, too")]
        let rounded = || Json::Number(number as f64);
        let exact = i64::try_from(number).ok().filter(|_| number <= MAX_EXACT);
        Ok(exact.map_or_else(rounded, Json::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let deeper = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(deeper)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let deeper = self.deeper()?;
        let mut object = BTreeMap::new();
        while let Some(name) = members.next_key::<String>()? {
            // Programs in C would see a shorter name.
            if name.contains('\0') {
                return Err(A::Error::custom("a NUL in a name"));
            }
            match object.entry(name) {
                Entry::Occupied(_) => return Err(A::Error::custom("a name stands twice")),
                Entry::Vacant(place) => {
                    place.insert(members.next_value_seed(deeper)?);
                }
            }
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_only_where_all_programs_read_the_same() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (body, expected) in [
            (&br#"{"a":1,"b":[true,null,"x\u00fc",1.5]}"#[..], true),
            (b" 1 ", true),
            (br#"{"a":{"x":1},"b":{"x":1}}"#, true),
            (deep(MAX_DEPTH).as_bytes(), true),
            (deep(MAX_DEPTH + 1).as_bytes(), false),
            (br#"{"a":1,"a":2}"#, false),
            (br#"{"a":1,"\u0061":2}"#, false),
            (br#"{"z":[{"a":1,"a":1}]}"#, false),
            (br#"{"a\u0000b":1}"#, false),
            (b"\xef\xbb\xbf{}", false),
            (b"{} {}", false),
            (b"{},", false),
            (b"{\"a\":1,}", false),
            (b"{a:1}", false),
            (b"{'a':1}", false),
            (b"// x\n{}", false),
            (b"\"\xff\"", false),
            (br#""\ud800""#, false),
            (b"\"a\nb\"", false),
            (b"NaN", false),
            (b"1e999", false),
            (b"01", false),
            (b"", false),
            (b"{\"a\":1}\0", false),
        ] {
            let text = String::from_utf8_lossy(body);
            assert_eq!(Json::read(body).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn only_a_whole_number_that_is_written_so_is_one() {
        assert_eq!(Json::read(b"5"), Some(Json::Integer(5)));
        assert_eq!(Json::read(b"-5"), Some(Json::Integer(-5)));
        let largest = Json::Integer((1 << 53) - 1);
        assert_eq!(Json::read(b"9007199254740991"), Some(largest));
        for body in [
            "5.0",
            "5e0",
            "-0",
            "18446744073709551615",
            "99999999999999999999",
            "9007199254740992",
            "-9007199254740992",
            "9223372036854775807",
        ] {
            let read = Json::read(body.as_bytes());
            assert!(matches!(read, Some(Json::Number(_))), "{body}: {read:?}");
        }
    }
}
