//! No bytes from a peer make a step of the link's handshake panic, on either side.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_agent::identity::{ConnectionId, SigningKey};
use relay_agent::protocol::handshake::{AgentHello, Binding, Greeting, Introduction};

// The first byte chooses the step that is given the rest.
fuzz_target!(|bytes: &[u8]| {
    let Some((step, message)) = bytes.split_first() else { return };
    let (Ok(agent), Ok(relay)) =
        (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]))
    else {
        return;
    };
    let introduction = Introduction {
        software: "fuzz".to_owned(),
        features: Vec::new(),
        window: 1,
        deactivated: false,
    };
    let connection = ConnectionId::from_bytes([3; 16]);
    let Ok(hello) =
        AgentHello::new(connection, relay.public_key(), &introduction, Binding::None)
    else {
        return;
    };
    match step % 4 {
        0 => {
            if let Ok(greeting) = Greeting::read(message) {
                let _ = greeting.check_version();
                let _ = greeting.challenge(&relay, &introduction, Binding::None, 0);
            }
        }
        1 => assert!(hello.handle_challenge(message, &agent, None).is_err(), "nobody signed this"),
        later => {
            let Ok(greeting) = Greeting::read(hello.message()) else { return };
            let Ok((challenge, waiting)) =
                greeting.challenge(&relay, &introduction, Binding::None, 0)
            else {
                return;
            };
            if later == 2 {
                assert!(waiting.handle_proof(message, &agent.public_key()).is_err(), "nobody signed this");
            } else if let Ok((_, proven)) = hello.handle_challenge(&challenge, &agent, None) {
                let _ = proven.handle_word(message);
            }
        }
    }
});
