//! The handshake as a pair, its failures one by one, and what an attacker in the middle achieves.

use super::*;
use crate::identity::SigningKey;
use crate::protocol::SOFTWARE;
use crate::protocol::frame::LaneCounts;

struct Pair {
    agent: SigningKey,
    relay: SigningKey,
    connection: ConnectionId,
}

const EXPORTER: Binding = Binding::Exporter([9; EXPORTER_LENGTH]);

const PLAIN_YES: Acceptance = Acceptance {
    deactivated: false,
    session: None,
    resumed: None,
};

fn pair() -> Pair {
    Pair {
        agent: SigningKey::generate().unwrap(),
        relay: SigningKey::generate().unwrap(),
        connection: ConnectionId::generate().unwrap(),
    }
}

fn introduction(deactivated: bool) -> Introduction {
    Introduction {
        software: SOFTWARE.to_owned(),
        features: vec![],
        window: 1 << 20,
        deactivated,
    }
}

impl Pair {
    fn hello(&self, binding: Binding) -> AgentHello {
        let relay = self.relay.public_key();
        AgentHello::new(self.connection, relay, &introduction(true), binding).unwrap()
    }

    fn challenge(&self, hello: &AgentHello, binding: Binding) -> (Vec<u8>, RelayChallenge) {
        let greeting = Greeting::read(hello.message()).unwrap();
        greeting
            .challenge(&self.relay, &introduction(false), binding, 1_767_225_600)
            .unwrap()
    }
}

#[test]
fn both_sides_learn_who_the_other_is_and_its_state() {
    for (ours, theirs) in [
        (EXPORTER, EXPORTER),
        (Binding::None, EXPORTER),
        (EXPORTER, Binding::None),
        (Binding::None, Binding::None),
    ] {
        let pair = pair();
        let hello = pair.hello(ours);
        let (challenge, waiting) = pair.challenge(&hello, theirs);
        let (proof, next) = hello
            .handle_challenge(&challenge, &pair.agent, None)
            .unwrap();
        let agent = waiting
            .handle_proof(&proof, &pair.agent.public_key())
            .unwrap();
        assert_eq!(agent.peer, introduction(true));
        let established = next.handle_word(&waiting.accept(&PLAIN_YES)).unwrap();
        assert_eq!(established.relay, introduction(false));
        assert_eq!(established.relay_time, 1_767_225_600);
    }
}

#[test]
fn a_ticket_is_shown_to_a_relay_that_knows_of_successions_and_to_no_other() {
    let pair = pair();
    let ticket = Ticket::generate().unwrap();
    for knows in [true, false] {
        let hello = pair.hello(EXPORTER).succeeding(Some(ticket));
        let mut relay = introduction(false);
        relay.features.extend(knows.then(|| SUCCESSION.to_owned()));
        let greeting = Greeting::read(hello.message()).unwrap();
        let (challenge, waiting) = greeting
            .challenge(&pair.relay, &relay, EXPORTER, 0)
            .unwrap();
        let proof = hello.handle_challenge(&challenge, &pair.agent, None);
        let proof = waiting.handle_proof(&proof.unwrap().0, &pair.agent.public_key());
        assert!(proof.unwrap().succeeds == knows.then_some(ticket));
    }
}

#[test]
fn a_session_is_offered_to_a_relay_that_can_resume_and_goes_on_where_both_say() {
    let pair = pair();
    let session = SessionId::generate().unwrap();
    let offer = ResumeOffer {
        session,
        received: LaneCounts([5, 6]),
    };
    for can_resume in [true, false] {
        let hello = pair.hello(EXPORTER);
        let mut relay = introduction(false);
        relay.features.extend(can_resume.then(|| RESUME.to_owned()));
        let greeting = Greeting::read(hello.message()).unwrap();
        let (challenge, waiting) = greeting
            .challenge(&pair.relay, &relay, EXPORTER, 0)
            .unwrap();
        let (proof, next) = hello
            .handle_challenge(&challenge, &pair.agent, Some(offer))
            .unwrap();
        let proof = waiting
            .handle_proof(&proof, &pair.agent.public_key())
            .unwrap();
        assert_eq!(proof.offer, can_resume.then_some(offer));
        let resumed = Resumed {
            received: LaneCounts([1, 2]),
            from: LaneCounts([5, 7]),
        };
        let grant = SessionGrant {
            id: session,
            resume_window: 120,
        };
        let word = waiting.accept(&Acceptance {
            deactivated: false,
            session: Some(grant),
            resumed: Some(resumed),
        });
        match next.handle_word(&word) {
            Ok(established) => {
                assert!(can_resume, "what was not offered cannot go on");
                assert_eq!(established.resumed, Some(resumed));
                assert_eq!(established.session, Some(grant));
            }
            Err(error) => {
                assert!(
                    !can_resume && matches!(error, HandshakeError::Malformed(_)),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn the_messages_about_a_session_are_these_bytes() {
    let session = SessionId::try_from("AAECAwQFBgcICQoLDA0ODw".to_owned()).unwrap();
    let offer = ResumeOffer {
        session,
        received: LaneCounts([81_920, 4_711]),
    };
    let succeeds = Ticket::try_from("AAECAwQFBgcICQoLDA0ODw".to_owned()).unwrap();
    let json = serde_json::to_string(&ProofBody {
        resume: Some(offer),
        succeeds: Some(succeeds),
    })
    .unwrap();
    assert_eq!(
        json,
        r#"{"resume":{"session":"AAECAwQFBgcICQoLDA0ODw","received":[81920,4711]},"succeeds":"AAECAwQFBgcICQoLDA0ODw"}"#
    );
    let accepted = AcceptedBody {
        deactivated: false,
        session: Some(session),
        resume_window: 120,
        resumed: Some(Resumed {
            received: LaneCounts([65_536, 815]),
            from: LaneCounts([98_304, 4_711]),
        }),
    };
    assert_eq!(
        serde_json::to_string(&accepted).unwrap(),
        r#"{"deactivated":false,"session":"AAECAwQFBgcICQoLDA0ODw","resume_window":120,"resumed":{"received":[65536,815],"from":[98304,4711]}}"#
    );
    assert_eq!(
        serde_json::to_string(&ProofBody {
            resume: None,
            succeeds: None
        })
        .unwrap(),
        "{}"
    );
}

#[test]
fn another_relay_is_found_out() {
    let pair = pair();
    let impostor = Pair {
        relay: SigningKey::generate().unwrap(),
        ..self::pair()
    };
    let hello = pair.hello(Binding::None);
    let (challenge, _) = impostor.challenge(&hello, Binding::None);
    let result = hello.handle_challenge(&challenge, &pair.agent, None);
    assert!(matches!(result, Err(HandshakeError::WrongRelay)));
}

#[test]
fn a_man_in_the_middle_with_two_tls_connections_shows() {
    let pair = pair();
    let hello = pair.hello(EXPORTER);
    let (challenge, _) = pair.challenge(&hello, Binding::Exporter([8; EXPORTER_LENGTH]));
    let result = hello.handle_challenge(&challenge, &pair.agent, None);
    assert!(matches!(result, Err(HandshakeError::Intercepted)));
}

#[test]
fn a_proof_by_another_key_is_refused() {
    let pair = pair();
    let hello = pair.hello(EXPORTER);
    let (challenge, waiting) = pair.challenge(&hello, EXPORTER);
    let thief = SigningKey::generate().unwrap();
    let (proof, _) = hello.handle_challenge(&challenge, &thief, None).unwrap();
    let result = waiting.handle_proof(&proof, &pair.agent.public_key());
    assert!(matches!(result, Err(HandshakeError::BadProof)));
}

#[test]
fn a_recorded_proof_is_worth_nothing_in_another_handshake() {
    let pair = pair();
    let hello = pair.hello(EXPORTER);
    let recorded_hello = hello.message().to_vec();
    let (challenge, _) = pair.challenge(&hello, EXPORTER);
    let (recorded_proof, _) = hello
        .handle_challenge(&challenge, &pair.agent, None)
        .unwrap();

    let greeting = Greeting::read(&recorded_hello).unwrap();
    let (_, waiting) = greeting
        .challenge(&pair.relay, &introduction(false), EXPORTER, 0)
        .unwrap();
    let result = waiting.handle_proof(&recorded_proof, &pair.agent.public_key());
    assert!(matches!(result, Err(HandshakeError::BadProof)));
}

#[test]
fn a_refusal_counts_only_when_the_relay_signed_it() {
    let pair = pair();
    let refusal = Refusal {
        code: RefusalCode::Removed,
        text: "it was removed".into(),
        retry_after: None,
    };

    let hello = pair.hello(EXPORTER);
    let message = Greeting::read(hello.message())
        .unwrap()
        .refuse(&pair.relay, &refusal);
    let Err(HandshakeError::Refused(read)) = hello.handle_challenge(&message, &pair.agent, None)
    else {
        panic!("the relay's own refusal was not believed")
    };
    assert_eq!(read, refusal);

    let hello = pair.hello(EXPORTER);
    let impostor = SigningKey::generate().unwrap();
    let message = Greeting::read(hello.message())
        .unwrap()
        .refuse(&impostor, &refusal);
    let result = hello.handle_challenge(&message, &pair.agent, None);
    assert!(matches!(result, Err(HandshakeError::WrongRelay)));
}

#[test]
fn a_copied_hello_with_a_false_proof_does_not_end_the_connection() {
    let pair = pair();
    let hello = pair.hello(EXPORTER);
    let in_the_middle = Binding::Exporter([8; EXPORTER_LENGTH]);
    let (_, waiting) = pair.challenge(&hello, in_the_middle);
    let refusal = Refusal {
        code: RefusalCode::BadProof,
        text: "not the key".to_owned(),
        retry_after: None,
    };
    let refused = waiting.refuse(&pair.relay, &refusal);
    let error = hello.handle_challenge(&refused, &pair.agent, None).err();
    assert!(matches!(error, Some(HandshakeError::Malformed(_))));
}

#[test]
fn a_refused_proof_ends_the_connection_only_where_nobody_can_have_changed_it() {
    let pair = pair();
    let refusal = Refusal {
        code: RefusalCode::BadProof,
        text: "not the key".to_owned(),
        retry_after: None,
    };
    let refused_with = |agents: Binding, relays: Binding| {
        let hello = pair.hello(agents);
        let (challenge, waiting) = pair.challenge(&hello, relays);
        let (_, next) = hello
            .handle_challenge(&challenge, &pair.agent, None)
            .unwrap();
        next.handle_word(&waiting.refuse(&pair.relay, &refusal))
            .unwrap_err()
    };
    let bound = refused_with(EXPORTER, EXPORTER);
    assert!(matches!(bound, HandshakeError::Refused(read) if read.code.is_final()));
    // TLS inspection is allowed, there is no TLS, or it ends before the relay.
    for (agents, relays) in [
        (Binding::None, EXPORTER),
        (Binding::None, Binding::None),
        (EXPORTER, Binding::None),
    ] {
        let doubtful = refused_with(agents, relays);
        assert!(matches!(doubtful, HandshakeError::DoubtfulBadProof));
    }
}

#[test]
fn an_old_refusal_cannot_be_played_again() {
    let pair = pair();
    let refusal = Refusal {
        code: RefusalCode::Removed,
        text: String::new(),
        retry_after: None,
    };
    let old = Greeting::read(pair.hello(EXPORTER).message())
        .unwrap()
        .refuse(&pair.relay, &refusal);
    let result = pair
        .hello(EXPORTER)
        .handle_challenge(&old, &pair.agent, None);
    assert!(matches!(result, Err(HandshakeError::WrongRelay)));
}

#[test]
fn a_refusal_after_the_proof_is_read_too() {
    let pair = pair();
    let hello = pair.hello(EXPORTER);
    let (challenge, waiting) = pair.challenge(&hello, EXPORTER);
    let (_, next) = hello
        .handle_challenge(&challenge, &pair.agent, None)
        .unwrap();
    let refusal = Refusal {
        code: RefusalCode::AlreadyLinked,
        text: "two".into(),
        retry_after: Some(60),
    };
    let result = next.handle_word(&waiting.refuse(&pair.relay, &refusal));
    assert!(matches!(result, Err(HandshakeError::Refused(read)) if read == refusal));
}

#[test]
fn an_agent_of_other_versions_is_told_apart() {
    let pair = pair();
    let mut hello: serde_json::Value =
        serde_json::from_slice(&pair.hello(EXPORTER).message()[1..]).unwrap();
    hello["versions"] = serde_json::json!([7, 8]);
    let mut message = vec![HELLO];
    message.extend(serde_json::to_vec(&hello).unwrap());
    let greeting = Greeting::read(&message).unwrap();
    let result = greeting.check_version();
    assert!(
        matches!(result, Err(HandshakeError::UnsupportedVersion(versions)) if versions == [7, 8])
    );
}

#[test]
fn members_and_codes_of_later_versions_are_tolerated() {
    let refusal: Refusal =
        serde_json::from_str(r#"{"code":"too-modern","text":"x","retry_after":null,"new":1}"#)
            .unwrap();
    assert_eq!(refusal.code, RefusalCode::Other);
    assert!(!refusal.code.is_final());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_a_step_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let pair = pair();
        let hello = pair.hello(EXPORTER);
        let (challenge, waiting) = pair.challenge(&hello, EXPORTER);
        let _ = Greeting::read(&bytes);
        let _ = waiting.handle_proof(&bytes, &pair.agent.public_key());
        let (_, next) = hello.handle_challenge(&challenge, &pair.agent, None).unwrap();
        let _ = next.handle_word(&bytes);
        proptest::prop_assert!(pair.hello(EXPORTER).handle_challenge(&bytes, &pair.agent, None).is_err());
    }
}
