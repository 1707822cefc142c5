//! What request and answer promise: every part is covered by the signature, and newer senders are told from wrong ones.

use super::*;
use crate::invitation::Mode;

fn invitation() -> Invitation {
    Invitation {
        relay_url: "https://relay.example.com".parse().unwrap(),
        connection: ConnectionId::from_bytes([1; 16]),
        one_time_key: SigningKey::from_seed([2; 32]).unwrap(),
        relay_identity: relay_key().public_key(),
        tls_pin: None,
        name: "acme_to_widgets".parse().unwrap(),
        local: "acme".parse().unwrap(),
        remote: "widgets".parse().unwrap(),
        mode: Mode::Script,
        expires: 1_790_000_000,
    }
}

fn relay_key() -> SigningKey {
    SigningKey::from_seed([3; 32]).unwrap()
}

fn request() -> RedeemRequest {
    let agent_key = SigningKey::from_seed([4; 32]).unwrap();
    let project = Some("ACME".to_owned());
    RedeemRequest::new(&invitation(), &agent_key, project, "agent/0.1.0".to_owned()).unwrap()
}

#[test]
fn a_request_is_proved_with_the_one_time_key_alone() {
    let request = RedeemRequest::from_json(&request().to_json()).unwrap();
    let one_time_key = invitation().one_time_key.public_key();
    assert_eq!(request.verify(&one_time_key), Ok(()));
    for other in [relay_key().public_key(), request.agent_key] {
        assert_eq!(request.verify(&other), Err(IdentityError::BadSignature));
    }
}

#[test]
fn no_part_of_a_request_can_be_changed_on_the_way() {
    let one_time_key = invitation().one_time_key.public_key();
    let changes: [fn(&mut RedeemRequest); 7] = [
        |request| request.connection = ConnectionId::from_bytes([9; 16]),
        |request| request.agent_key = PublicKey::from_bytes([9; 32]),
        |request| request.nonce[31] ^= 1,
        |request| request.project = None,
        |request| request.project = Some("OTHER".to_owned()),
        |request| request.software = "agent/0.2.0".to_owned(),
        |request| {
            request.project = Some("ACM".to_owned());
            request.software = "Eagent/0.1.0".to_owned();
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut changed = request();
        change(&mut changed);
        assert!(changed.verify(&one_time_key).is_err(), "change {number}");
    }
}

#[test]
fn an_answer_is_that_of_the_pinned_relay_to_this_request() {
    let request = request();
    let answer = RedeemAnswer::new(&request, 17, false, &relay_key());
    let answer = RedeemAnswer::from_json(&answer.to_json()).unwrap();
    let relay = relay_key().public_key();
    assert_eq!(answer.verify(&request, &relay), Ok(()));
    let other_relay = SigningKey::from_seed([8; 32]).unwrap().public_key();
    assert!(answer.verify(&request, &other_relay).is_err());
}

#[test]
fn no_part_of_an_answer_can_be_changed_or_played_again() {
    let request = request();
    let relay = relay_key().public_key();
    let changes: [fn(&mut RedeemAnswer, &mut RedeemRequest); 6] = [
        |answer, _| answer.connection = ConnectionId::from_bytes([9; 16]),
        |answer, _| answer.redeemed_at += 1,
        |answer, _| answer.deactivated = true,
        |_, request| request.nonce[0] ^= 1,
        |_, request| request.agent_key = PublicKey::from_bytes([9; 32]),
        |_, request| request.connection = ConnectionId::from_bytes([9; 16]),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut answer = RedeemAnswer::new(&request, 17, false, &relay_key());
        let mut asked = request.clone();
        change(&mut answer, &mut asked);
        assert!(answer.verify(&asked, &relay).is_err(), "change {number}");
    }
}

#[test]
fn what_was_signed_as_a_request_does_not_pass_as_an_answer() {
    let request = request();
    let one_key = invitation().one_time_key;
    let mut answer = RedeemAnswer::new(&request, 17, false, &one_key);
    answer.signature = request.signature;
    assert!(answer.verify(&request, &one_key.public_key()).is_err());
    assert_ne!(REQUEST_DOMAIN, ANSWER_DOMAIN);
}

#[test]
fn a_nonce_is_drawn_anew_for_every_attempt() {
    assert_ne!(request().nonce, request().nonce);
}

#[test]
fn members_of_a_newer_sender_are_ignored_and_a_newer_version_is_told() {
    let mut json: serde_json::Value = serde_json::from_slice(&request().to_json()).unwrap();
    json["colour"] = "green".into();
    let read = RedeemRequest::from_json(json.to_string().as_bytes()).unwrap();
    assert_eq!(read.project.as_deref(), Some("ACME"));
    let newer = br#"{"version": 2, "everything": "else"}"#;
    assert_eq!(
        RedeemRequest::from_json(newer),
        Err(RedeemError::UnsupportedVersion(2))
    );
    assert_eq!(RedeemAnswer::from_json(newer), None);
}

#[test]
fn what_is_not_a_request_is_refused() {
    let intact: serde_json::Value = serde_json::from_slice(&request().to_json()).unwrap();
    let changes: [fn(&mut serde_json::Value); 8] = [
        |json| json["nonce"] = "AAAA".into(),
        |json| json["project"] = "a\u{1b}[2J".into(),
        |json| json["project"] = "".into(),
        |json| json["software"] = "x".repeat(MAX_TEXT_LENGTH + 1).into(),
        |json| json["software"] = serde_json::Value::Null,
        |json| json["connection"] = "c_".into(),
        |json| json["version"] = "1".into(),
        |json| json["padding"] = "x".repeat(MAX_LENGTH).into(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut json = intact.clone();
        change(&mut json);
        let error = RedeemRequest::from_json(json.to_string().as_bytes()).unwrap_err();
        assert!(
            matches!(error, RedeemError::Malformed(_)),
            "change {number}"
        );
    }
    for bytes in [&b""[..], b"[]", b"\xff", b"{}"] {
        assert!(RedeemRequest::from_json(bytes).is_err());
    }
}
