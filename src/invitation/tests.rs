//! What a code promises, tried on many codes and on every kind of damage. The exact bytes are in `tests/vectors/invitation`.

use proptest::prelude::*;

use super::*;

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}".prop_map(|text| text.parse().unwrap())
}

fn relay_url() -> impl Strategy<Value = RelayUrl> {
    let host = prop_oneof![
        "[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9]{1,20}){0,3}",
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
    ];
    let prefix = "(/[a-z0-9_~-]{1,9}){0,3}";
    (any::<bool>(), host, 1..=u16::MAX, prefix).prop_map(|(is_tls, host, port, prefix)| {
        let scheme = if is_tls { "https" } else { "http" };
        format!("{scheme}://{host}:{port}{prefix}").parse().unwrap()
    })
}

fn invitation() -> impl Strategy<Value = Invitation> {
    let keys = any::<([u8; 16], [u8; 32], [u8; 32], Option<[u8; 32]>, u64)>();
    (
        keys,
        relay_url(),
        name(),
        name(),
        proptest::option::of(name()),
    )
        .prop_map(
            |((connection, seed, identity, pin, expires), relay_url, local, remote, own_name)| {
                let default = Name::of_connection(&local, &remote);
                Invitation {
                    connection: ConnectionId::from_bytes(connection),
                    one_time_key: SigningKey::from_seed(seed).unwrap(),
                    relay_identity: PublicKey::from_bytes(identity),
                    tls_pin: pin.map(TlsPin::from_bytes).filter(|_| relay_url.is_tls()),
                    name: own_name
                        .or_else(|| default.ok())
                        .unwrap_or_else(|| local.clone()),
                    relay_url,
                    local,
                    remote,
                    mode: Mode::Script,
                    expires,
                }
            },
        )
}

fn code() -> impl Strategy<Value = String> {
    invitation().prop_map(|invitation| invitation.encode().expose().clone())
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(invitation in invitation()) {
        let code = invitation.encode();
        let decoded = Invitation::decode(code.expose()).unwrap();
        prop_assert_eq!(format!("{decoded:?}"), format!("{invitation:?}"));
        prop_assert_eq!(decoded.one_time_key.seed().expose(), invitation.one_time_key.seed().expose());
        prop_assert!(code.expose().strip_prefix("inv1_").unwrap().chars().all(|c| ALPHABET.contains(c)));
    }

    #[test]
    fn white_space_and_line_breaks_anywhere_do_not_matter(
        code in code(),
        places in proptest::collection::vec((any::<prop::sample::Index>(), "[ \t\r\n\u{a0}\u{200b}\u{feff}\u{ad}]{1,3}"), 0..20),
    ) {
        let mut text = code.clone();
        for (place, filling) in places {
            let starts: Vec<usize> = text.char_indices().map(|(start, _)| start).chain([text.len()]).collect();
            text.insert_str(starts[place.index(starts.len())], &filling);
        }
        let decoded = Invitation::decode(&text).unwrap();
        let encoded = decoded.encode();
        prop_assert_eq!(encoded.expose(), &code);
    }

    #[test]
    fn a_truncated_code_is_told_as_a_piece_missing(code in code(), cut in any::<prop::sample::Index>()) {
        let have = 1 + cut.index(code.len() - 1);
        let error = Invitation::decode(&code[..have]).unwrap_err();
        let InvitationError::PieceMissing { have: told, want } = error else {
            return Err(TestCaseError::fail(format!("{error:?}")));
        };
        prop_assert_eq!(told, have);
        let length_is_known = have >= "inv1_".len() + 4;
        let is_plausible = if length_is_known { want == code.len() } else { want > have };
        prop_assert!(is_plausible);
    }

    #[test]
    fn a_lost_start_of_the_prefix_is_told_as_a_piece_missing(code in code(), cut in 1..=5_usize) {
        prop_assert_eq!(
            Invitation::decode(&code[cut..]).unwrap_err(),
            InvitationError::PieceMissing { have: code.len() - cut, want: code.len() }
        );
    }

    #[test]
    fn a_character_that_no_code_has_is_shown_with_its_place(code in code(), place in any::<prop::sample::Index>()) {
        let place = 5 + place.index(code.len() - 5);
        let mut damaged = code;
        damaged.replace_range(place..=place, "é");
        prop_assert_eq!(
            Invitation::decode(&damaged).unwrap_err(),
            InvitationError::StrangeCharacter { character: 'é', place: place + 1 }
        );
    }

    #[test]
    fn extra_text_is_told_as_such(code in code(), extra in "[ -~]{0,30}[!-~]") {
        let error = Invitation::decode(&format!("{code} {extra}")).unwrap_err();
        let have = code.len() + extra.chars().filter(|c| *c != ' ').count();
        prop_assert_eq!(error, InvitationError::TooLong { have, want: code.len() });
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = Invitation::decode(&text);
        let _ = Invitation::decode(&format!("inv1_{text}"));
    }

    #[test]
    fn no_text_of_the_right_alphabet_makes_it_panic(text in "[A-Za-z0-9_-]{0,700}") {
        let decoded = Invitation::decode(&format!("inv1_{text}"));
        prop_assert!(decoded.is_err());
    }

    #[test]
    fn no_record_with_a_right_checksum_makes_it_panic(record in proptest::collection::vec(any::<u8>(), 0..700), version in any::<u8>()) {
        if let Ok(invitation) = Invitation::decode(envelope::seal(version, &record).expose()) {
            let written = record::write(&invitation);
            prop_assert_eq!(written.expose(), &record);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// Every place, every other character.
    #[test]
    fn every_single_wrong_character_is_told_as_mistyped(code in code()) {
        for place in 0..code.len() {
            let right = &code[place..=place];
            for wrong in ALPHABET.chars().filter(|wrong| !right.starts_with(*wrong)) {
                let mut damaged = code.clone();
                damaged.replace_range(place..=place, wrong.encode_utf8(&mut [0; 4]));
                prop_assert_eq!(
                    Invitation::decode(&damaged).unwrap_err(),
                    InvitationError::Mistyped,
                    "{} instead of {} at {}", wrong, right, place
                );
            }
        }
    }
}

#[test]
fn a_text_far_too_long_is_refused_without_reading_all_of_it() {
    let text = format!("inv1_{}", "A".repeat(10_000_000));
    assert_eq!(
        Invitation::decode(&text).unwrap_err(),
        InvitationError::Mistyped
    );
    let code = envelope::seal(1, &[0; 100]).expose().clone();
    let InvitationError::TooLong { have, want } =
        Invitation::decode(&code.repeat(1_000)).unwrap_err()
    else {
        panic!("not told as too long");
    };
    assert_eq!(want, code.len());
    assert!(have < 6_000);
}

#[test]
fn no_error_shows_the_code() {
    let code = envelope::seal(9, b"a secret that is not to be shown")
        .expose()
        .clone();
    for damaged in [
        code.clone(),
        code[..40].to_owned(),
        format!("{code}é"),
        format!("x{code}"),
    ] {
        let error = Invitation::decode(&damaged).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !code.as_bytes()[5..]
                .windows(8)
                .any(|part| shown.contains(std::str::from_utf8(part).unwrap())),
            "{shown}"
        );
    }
}
