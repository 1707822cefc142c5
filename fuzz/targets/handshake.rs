//! No bytes from a peer make a step of the link's handshake panic, on either side; and no session goes
//! on but one that was offered.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use relay_agent::identity::{ConnectionId, PublicKey, SigningKey};
use relay_agent::protocol::frame::LaneCounts;
use relay_agent::protocol::handshake::{
    Acceptance, AgentHello, AgentProof, Binding, Established, Greeting, Introduction, MOVE, RESUME,
    RelayChallenge, ResumeOffer, Resumed, SessionGrant, SessionId,
};
use relay_agent::session::{Session, WINDOW};

// The first byte chooses the step that is given the rest.
fuzz_target!(|bytes: &[u8]| {
    let Some((step, message)) = bytes.split_first() else { return };
    let (Ok(agent), Ok(relay)) =
        (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]))
    else {
        return;
    };
    match step % 6 {
        0 => greet(message, &relay),
        1 => {
            let Some(hello) = hello(relay.public_key()) else { return };
            assert!(hello.handle_challenge(message, &agent, None).is_err(), "nobody signed this");
        }
        2 => {
            let Some((waiting, ..)) = proved(&agent, &relay, None) else { return };
            assert!(waiting.handle_proof(message, &agent.public_key()).is_err(), "nobody signed this");
        }
        3 => {
            let Some((_, proven, _)) = proved(&agent, &relay, None) else { return };
            if let Ok(established) = proven.handle_word(message) {
                assert_eq!(established.resumed, None, "nothing was offered");
            }
        }
        4 => {
            let Some((_, proven, _)) = proved(&agent, &relay, Some(offer(&[]))) else { return };
            if let Ok(established) = proven.handle_word(message) {
                go_on(&established);
            }
        }
        _ => agree(message, &agent, &relay),
    }
});

/// The relay reads a hello.
fn greet(message: &[u8], relay: &SigningKey) {
    if let Ok(greeting) = Greeting::read(message) {
        let _ = greeting.check_version();
        let _ = greeting.challenge(relay, &introduction(), Binding::None, 0);
    }
}

/// Both sides are honest, and what they say of the session arrives, whatever it is.
fn agree(numbers: &[u8], agent: &SigningKey, relay: &SigningKey) {
    let offer = offer(numbers);
    let Some((waiting, proven, proof)) = proved(agent, relay, Some(offer)) else { return };
    let proof = waiting.handle_proof(&proof, &agent.public_key()).expect("the agent signed it");
    assert_eq!(proof.offer, Some(offer));
    let said = Acceptance {
        deactivated: numbers.len() % 2 == 0,
        session: Some(SessionGrant { id: offer.session, resume_window: number(numbers, 2) }),
        resumed: Some(Resumed { received: counts(numbers, 3), from: counts(numbers, 5) }),
    };
    let established = proven.handle_word(&waiting.accept(&said)).expect("it goes on with what was offered");
    assert_eq!((established.session, established.resumed), (said.session, said.resumed));
    go_on(&established);
}

/// A session that has sent and received nothing goes on only from its beginning.
fn go_on(established: &Established) {
    let Some(resumed) = established.resumed else { return };
    assert!(established.session.is_some(), "the session has no name");
    let mut session = Session::new(WINDOW, Duration::ZERO, Duration::ZERO);
    let result = session.resume(resumed.received, resumed.from, Duration::ZERO, Duration::ZERO);
    let nothing = LaneCounts::default();
    assert_eq!(result.is_ok(), resumed == Resumed { received: nothing, from: nothing });
}

fn introduction() -> Introduction {
    Introduction {
        software: "fuzz".to_owned(),
        features: vec![RESUME.to_owned(), MOVE.to_owned()],
        window: 1,
        deactivated: false,
    }
}

fn hello(relay: PublicKey) -> Option<AgentHello> {
    let connection = ConnectionId::from_bytes([3; 16]);
    AgentHello::new(connection, relay, &introduction(), Binding::None).ok()
}

/// Both sides up to the proof.
fn proved(
    agent: &SigningKey,
    relay: &SigningKey,
    offer: Option<ResumeOffer>,
) -> Option<(RelayChallenge, AgentProof, Vec<u8>)> {
    let hello = hello(relay.public_key())?;
    let greeting = Greeting::read(hello.message()).expect("an agent wrote it");
    let (challenge, waiting) = greeting.challenge(relay, &introduction(), Binding::None, 0).ok()?;
    let (proof, proven) = hello.handle_challenge(&challenge, agent, offer).expect("the relay signed it");
    Some((waiting, proven, proof))
}

fn offer(numbers: &[u8]) -> ResumeOffer {
    let session = "AAAAAAAAAAAAAAAAAAAAAA".to_owned();
    ResumeOffer {
        session: SessionId::try_from(session).expect("16 bytes"),
        received: counts(numbers, 0),
    }
}

fn counts(bytes: &[u8], from: usize) -> LaneCounts {
    LaneCounts([number(bytes, from), number(bytes, from + 1)])
}

/// The number at a place; 0 where there are no bytes any more.
fn number(bytes: &[u8], place: usize) -> u64 {
    let mut eight = [0; 8];
    for (to, from) in eight.iter_mut().zip(bytes.iter().skip(8 * place)) {
        *to = *from;
    }
    u64::from_be_bytes(eight)
}
