//! The message byte for byte, what its signatures withstand, and both sides crashing wherever they can.

use proptest::prelude::*;

use super::*;

/// Numbers stand for keys: what the two halves decide depends on nothing else.
fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn signing(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32]).unwrap()
}

const CONNECTION: ConnectionId = ConnectionId::from_bytes([7; 16]);
const LINK: Transcript = Transcript::from_bytes([9; 32]);

#[test]
fn the_message_is_these_bytes() {
    let message = RotateMessage::new(CONNECTION, &LINK, &signing(1), &signing(2));
    let golden = include_str!("../../../tests/vectors/rotation/v1.json");
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    assert_eq!(serde_json::to_value(&message).unwrap(), golden["message"]);
    let text = |name: &str| golden[name].as_str().unwrap().to_owned();
    assert_eq!(text("connection"), CONNECTION.to_string());
    assert_eq!(text("transcript"), crate::identity::to_base64(&[9; 32]));
    let keys = [message.current, message.next];
    for (domain, name) in [
        (CURRENT_DOMAIN, "signed_by_current"),
        (NEXT_DOMAIN, "signed_by_next"),
    ] {
        let bytes = signed(domain, CONNECTION, keys, &LINK);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text(name), hex);
    }
    let read: RotateMessage = serde_json::from_value(golden["message"].clone()).unwrap();
    assert_eq!(read.verify(CONNECTION, &LINK), Ok(()));
}

#[test]
fn a_message_is_worth_nothing_elsewhere_or_without_both_keys() {
    let message = RotateMessage::new(CONNECTION, &LINK, &signing(1), &signing(2));
    let other_link = Transcript::from_bytes([8; 32]);
    let other_connection = ConnectionId::from_bytes([6; 16]);
    assert!(message.verify(CONNECTION, &other_link).is_err());
    assert!(message.verify(other_connection, &LINK).is_err());
    // A thief who names his own key as the next, or another's key without having it.
    let his = RotateMessage::new(CONNECTION, &LINK, &signing(3), &signing(4));
    for forged in [
        RotateMessage {
            next: his.next,
            proof: his.proof,
            ..message.clone()
        },
        RotateMessage {
            current: message.current,
            ..his
        },
        RotateMessage {
            next: signing(5).public_key(),
            ..message.clone()
        },
        RotateMessage {
            signature: message.proof,
            proof: message.signature,
            ..message
        },
    ] {
        assert!(forged.verify(CONNECTION, &LINK).is_err());
    }
}

#[test]
fn what_was_given_up_does_not_come_back() {
    let mut relay = RelayKeys {
        current: key(1),
        next: None,
        former: Vec::new(),
    };
    assert_eq!(relay.announce(key(1), key(2)), Ok(Announcement::Stored));
    assert_eq!(relay.announce(key(1), key(2)), Ok(Announcement::Known));
    assert!(relay.proved(key(2)) && !relay.proved(key(2)));
    assert_eq!(relay.standing(key(1)), Standing::Former);
    // The answer was lost, and the link of the old key lives on: the same again does no harm.
    assert_eq!(relay.announce(key(1), key(2)), Ok(Announcement::Known));
    assert_eq!(
        relay.announce(key(1), key(3)),
        Err(RotateRefusal::NotCurrent)
    );
    assert_eq!(relay.announce(key(2), key(1)), Err(RotateRefusal::Former));
    assert_eq!(
        relay.announce(key(9), key(2)),
        Err(RotateRefusal::NotCurrent)
    );
}

#[test]
fn former_keys_are_few() {
    let mut relay = RelayKeys {
        current: key(0),
        next: None,
        former: Vec::new(),
    };
    for number in 1..=40 {
        relay.announce(key(number - 1), key(number)).unwrap();
        assert!(relay.proved(key(number)));
    }
    assert_eq!(relay.former.len(), FORMER_KEPT);
    assert_eq!(relay.former.first(), Some(&key(39)));
}

/// Both sides, their disks, and what is on the way between them. Only the disks survive a crash.
#[derive(Debug, Clone)]
struct World {
    agent: AgentKeys,
    relay: RelayKeys,
    /// The key with which the live link was made, while there is one.
    link: Option<PublicKey>,
    /// What the agent does next on this link; `None` when it waits for an answer, or for the next link.
    step: Option<AgentStep>,
    /// Announcements that may still reach the relay, however late.
    announced: Vec<(PublicKey, PublicKey)>,
    /// Whether the half of a promotion is done that is on the disk alone.
    keys_made: u8,
    is_wanted: bool,
    /// The agent's disk as somebody copied it.
    copy: Option<AgentKeys>,
}

/// What can happen. Numbers choose among announcements.
#[derive(Debug, Clone, Copy)]
enum Move {
    /// The clock, or the administrator, wants a new key.
    Want,
    /// The agent takes one step, which changes its disk at one place at the most.
    Step,
    /// An announcement reaches the relay, and its answer the agent, if it still waits.
    Deliver(usize),
    /// An announcement reaches the relay, and its answer is lost.
    DeliverUnanswered(usize),
    /// Either side is killed, or the wire is cut for good: the link and what the agent was at are gone.
    Crash,
    /// The agent makes a link.
    Link,
    /// The agent makes a link, and is killed before it can do anything with it.
    LinkAndCrash,
    /// Somebody copies the agent's disk.
    Copy,
}

impl World {
    fn new() -> Self {
        Self {
            agent: AgentKeys {
                current: key(0),
                next: None,
                previous: None,
            },
            relay: RelayKeys {
                current: key(0),
                next: None,
                former: Vec::new(),
            },
            link: None,
            step: None,
            announced: Vec::new(),
            keys_made: 0,
            is_wanted: false,
            copy: None,
        }
    }

    fn make(&mut self, one: Move) {
        match one {
            Move::Want => {
                self.is_wanted = true;
                self.look_again();
            }
            Move::Step => self.step(),
            Move::Deliver(number) => self.deliver(number, true),
            Move::DeliverUnanswered(number) => self.deliver(number, false),
            Move::Crash => self.crash(),
            Move::Link => self.make_link(),
            Move::LinkAndCrash => {
                self.make_link();
                self.crash();
            }
            Move::Copy => self.copy = Some(self.agent.clone()),
        }
        self.check();
    }

    fn look_again(&mut self) {
        self.step = self
            .link
            .map(|proven| self.agent.after_link(proven, self.is_wanted));
    }

    fn step(&mut self) {
        match self.step {
            None | Some(AgentStep::Nothing) => {}
            Some(AgentStep::MakeNext) => {
                self.keys_made += 1;
                self.agent.next = Some(key(self.keys_made));
                self.is_wanted = false;
                self.look_again();
            }
            Some(AgentStep::Announce { by, next }) => {
                self.announced.push((by, next));
                self.step = None;
            }
            // Two places on the disk, one after the other.
            Some(AgentStep::Promote) if self.agent.previous != Some(self.agent.current) => {
                self.agent.previous = Some(self.agent.current);
            }
            Some(AgentStep::Promote) => {
                if let Some(next) = self.agent.next.take() {
                    self.agent.current = next;
                }
                self.step = None;
            }
        }
    }

    fn deliver(&mut self, number: usize, is_answered: bool) {
        if self.announced.is_empty() {
            return;
        }
        // It stays: the same may come again.
        let (by, next) = self.announced[number % self.announced.len()];
        let answer = self.relay.announce(by, next);
        let awaits = self.step.is_none() && self.link.is_some();
        if awaits && is_answered && answer.is_ok() && self.announced.last() == Some(&(by, next)) {
            self.step = Some(self.agent.after_confirmation(next));
        }
    }

    fn crash(&mut self) {
        self.link = None;
        self.step = None;
    }

    fn make_link(&mut self) {
        let mut refused = Vec::new();
        loop {
            let Some(proven) = self.agent.to_prove(&refused) else {
                panic!("locked out: {self:?}");
            };
            match self.relay.standing(proven) {
                Standing::Current | Standing::Next => {
                    self.relay.proved(proven);
                    self.link = Some(proven);
                    self.look_again();
                    return;
                }
                Standing::Former | Standing::Unknown => refused.push(proven),
            }
        }
    }

    /// What holds at every moment.
    fn check(&self) {
        let held = [
            Some(self.agent.current),
            self.agent.next,
            self.agent.previous,
        ];
        let accepted: Vec<_> = [Some(self.relay.current), self.relay.next]
            .into_iter()
            .flatten()
            .collect();
        for key in &accepted {
            assert!(held.contains(&Some(*key)), "a stray key: {self:?}");
            assert!(!self.relay.former.contains(key), "a former key: {self:?}");
        }
        assert!(
            accepted.contains(&self.agent.current)
                || accepted.iter().any(|key| held.contains(&Some(*key)))
        );
        let current = self.relay.standing(self.agent.current);
        assert!(
            matches!(current, Standing::Current | Standing::Next),
            "the key that is proved first is refused: {self:?}"
        );
    }

    /// Nothing disturbs any more: the agent links, and links again when it has a new key.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.make_link();
            for _ in 0..8 {
                self.step();
                self.deliver(self.announced.len().saturating_sub(1), true);
                self.check();
            }
        }
    }
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        2 => Just(Move::Want),
        6 => Just(Move::Step),
        3 => any::<usize>().prop_map(Move::Deliver),
        2 => any::<usize>().prop_map(Move::DeliverUnanswered),
        3 => Just(Move::Crash),
        4 => Just(Move::Link),
        1 => Just(Move::LinkAndCrash),
        1 => Just(Move::Copy),
    ];
    prop::collection::vec(one, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_crashes_the_agent_is_never_locked_out_and_ends_with_one_key(moves in moves()) {
        let mut world = World::new();
        for one in moves {
            world.make(one);
        }
        world.settle();
        prop_assert_eq!(world.agent.next, None);
        prop_assert_eq!(world.relay.next, None);
        prop_assert_eq!(world.relay.current, world.agent.current);
        prop_assert!(!world.is_wanted);
        if let Some(copy) = world.copy {
            // A copy from before the last key was made is refused, and told what it is.
            let held = [Some(copy.current), copy.next, copy.previous];
            if !held.contains(&Some(world.relay.current)) {
                for key in held.into_iter().flatten() {
                    prop_assert_eq!(world.relay.standing(key), Standing::Former);
                }
            }
        }
    }

    #[test]
    fn a_relay_that_lost_the_last_rotation_takes_the_agent_back(moves in moves()) {
        let mut world = World::new();
        for one in moves {
            world.make(one);
        }
        world.settle();
        let backup = world.relay.clone();
        world.make(Move::Want);
        world.settle();
        prop_assert_ne!(world.relay.current, backup.current);
        world.relay = backup;
        world.crash();
        world.settle();
        prop_assert_eq!(world.relay.current, world.agent.current);
    }
}
