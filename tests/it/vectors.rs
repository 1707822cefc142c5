//! The golden vectors: what the formats are, byte for byte, as another implementation spelt them out.
//!
//! Never written by this program: a change here is a change of a format that others speak.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use relay_agent::identity::{SigningKey, from_base64};
use relay_agent::invitation::{Invitation, Mode};
use relay_agent::protocol::redeem::{RedeemAnswer, RedeemRequest};
use serde_json::Value;

#[test]
fn every_good_invitation_is_read_and_written_byte_for_byte() {
    let vectors = vectors("invitation", "good-");
    assert_eq!(vectors.len(), 5, "a vector was lost or not counted");
    for (path, vector) in vectors {
        let code = text(&vector, "code");
        assert_eq!(
            code,
            format!(
                "inv1_{}",
                URL_SAFE_NO_PAD.encode(spelt_bytes(&vector["bytes"]))
            )
        );
        let given = vector
            .get("text")
            .map_or(code, |text| text.as_str().unwrap());
        let decoded = Invitation::decode(given).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let expected = invitation(&vector["values"]);
        assert_eq!(
            format!("{decoded:#?}"),
            format!("{expected:#?}"),
            "{path:?}"
        );
        assert_eq!(
            decoded.one_time_key.seed().expose(),
            expected.one_time_key.seed().expose()
        );
        assert_eq!(decoded.encode().expose(), code, "{path:?}");
        assert_eq!(expected.encode().expose(), code, "{path:?}");
    }
}

#[test]
fn every_bad_invitation_is_refused_with_its_own_words() {
    let vectors = vectors("invitation", "bad-");
    assert_eq!(vectors.len(), 31, "a vector was lost or not counted");
    for (path, vector) in vectors {
        let given = text(&vector, "text");
        if let Some(bytes) = vector.get("bytes") {
            assert_eq!(
                given,
                format!("inv1_{}", URL_SAFE_NO_PAD.encode(spelt_bytes(bytes)))
            );
        }
        let error = Invitation::decode(given)
            .err()
            .unwrap_or_else(|| panic!("{path:?} was read"));
        assert_eq!(format!("{error:?}"), text(&vector, "error"), "{path:?}");
        assert_eq!(error.to_string(), text(&vector, "message"), "{path:?}");
    }
}

#[test]
fn a_usual_code_fits_into_250_characters_and_is_the_one_in_the_documentation() {
    let (_, vector) = vectors("invitation", "good-self-signed").remove(0);
    let code = text(&vector, "code");
    assert!(code.len() <= 250, "{} characters", code.len());
    let documentation = fs::read_to_string(repository().join("docs/invitation-code.md")).unwrap();
    assert!(documentation.contains(code));
}

#[test]
fn every_redemption_is_signed_and_verified_byte_for_byte() {
    let vectors = vectors("redeem", "");
    assert_eq!(vectors.len(), 2, "a vector was lost or not counted");
    for (path, vector) in vectors {
        let one_time_key =
            SigningKey::from_seed(hex_array(text(&vector, "one_time_seed"))).unwrap();
        let relay_key = SigningKey::from_seed(hex_array(text(&vector, "relay_seed"))).unwrap();

        let request = RedeemRequest::from_json(vector["request"].to_string().as_bytes()).unwrap();
        assert_eq!(
            request.verify(&one_time_key.public_key()),
            Ok(()),
            "{path:?}"
        );
        assert_eq!(
            request.signature,
            one_time_key.sign(&spelt_bytes(&vector["request_message"]))
        );
        let made = RedeemRequest::with_nonce(
            request.connection,
            &one_time_key,
            request.agent_key,
            from_base64(text(&vector["request"], "nonce")).unwrap(),
            vector["request"]["project"].as_str().map(str::to_owned),
            text(&vector["request"], "software").to_owned(),
        );
        assert_eq!(json(&made.to_json()), vector["request"], "{path:?}");

        let answer = RedeemAnswer::from_json(vector["answer"].to_string().as_bytes()).unwrap();
        assert_eq!(
            answer.verify(&request, &relay_key.public_key()),
            Ok(()),
            "{path:?}"
        );
        assert_eq!(
            answer.signature,
            relay_key.sign(&spelt_bytes(&vector["answer_message"]))
        );
        let made = RedeemAnswer::new(&request, answer.redeemed_at, answer.deactivated, &relay_key);
        assert_eq!(json(&made.to_json()), vector["answer"], "{path:?}");
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The vectors of a kind whose file names begin so, sorted by name.
fn vectors(kind: &str, beginning: &str) -> Vec<(PathBuf, Value)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(repository().join("tests/vectors").join(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(beginning)
        })
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let vector = json(&fs::read(&path).unwrap());
        (path, vector)
    };
    paths.into_iter().map(read).collect()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} is not a text"))
}

/// The bytes of a list of fields, one after the other.
fn spelt_bytes(fields: &Value) -> Vec<u8> {
    fields
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|field| hex(text(field, "hex")))
        .collect()
}

fn invitation(values: &Value) -> Invitation {
    assert_eq!(text(values, "mode"), "script");
    Invitation {
        relay_url: text(values, "relay_url").parse().unwrap(),
        connection: text(values, "connection").parse().unwrap(),
        one_time_key: SigningKey::from_seed(hex_array(text(values, "one_time_seed"))).unwrap(),
        relay_identity: text(values, "relay_identity").parse().unwrap(),
        tls_pin: values["tls_pin"].as_str().map(|pin| pin.parse().unwrap()),
        name: text(values, "name").parse().unwrap(),
        local: text(values, "local").parse().unwrap(),
        remote: text(values, "remote").parse().unwrap(),
        mode: Mode::Script,
        expires: values["expires"].as_u64().unwrap(),
    }
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    let byte = |start: usize| u8::from_str_radix(&text[start..start + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn hex_array(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}
