//! A relay in miniature for the supervisor's tests: links whom it likes, tells what the test tells it to, and notes what it hears.

use std::convert::Infallible;
use std::sync::Mutex;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::super::*;
use crate::agent::audit::Audit;
use crate::agent::command::{self, Commands};
use crate::agent::config::tests::read;
use crate::agent::state::Standing;
use crate::agent::state::tests::example;
use crate::body::{self, Body};
use crate::identity::{PublicKey, SigningKey};
use crate::link::http2::{self, LaneClient};
use crate::link::server::{self, Arrival};
use crate::link::tls::{ReadAhead, Stream};
use crate::link::{Link, LinkHandle};
use crate::protocol::handshake::{Binding, Introduction, Refusal, RefusalCode};
use crate::session::WINDOW;

/// Every wait of these tests: far longer than anything takes, so that only a defect runs into it.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

pub(super) struct Relay {
    identity: SigningKey,
    url: String,
    agents: Mutex<BTreeMap<ConnectionId, Agent>>,
    heard: Mutex<Vec<String>>,
    /// How it answers what it hears, once there is a permit.
    answer: Mutex<http::StatusCode>,
    answers: Semaphore,
}

/// What the relay knows of one agent.
struct Agent {
    key: PublicKey,
    refusal: Option<RefusalCode>,
    link: Option<(LaneClient, LinkHandle)>,
    /// Ends the hearing of what this agent says.
    hearing: Option<oneshot::Sender<()>>,
    links: usize,
}

impl Relay {
    pub(super) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Arc::new(Self {
            identity: SigningKey::generate().unwrap(),
            url: format!("http://{}", listener.local_addr().unwrap()),
            agents: Mutex::default(),
            heard: Mutex::default(),
            answer: Mutex::new(http::StatusCode::OK),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let serving = Arc::clone(&relay);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let relay = Arc::clone(&serving);
                let service = service_fn(move |mut request: Request<Incoming>| {
                    let (response, upgrade) = server::upgrade(&mut request).unwrap();
                    let relay = Arc::clone(&relay);
                    tokio::spawn(async move {
                        let arrival = Arrival::receive::<Stream>(upgrade).await.unwrap();
                        relay.welcome(arrival).await;
                    });
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(
                        TokioIo::new(Stream::Plain(ReadAhead::new(stream.into()))),
                        service,
                    )
                    .with_upgrades();
                tokio::spawn(connection);
            }
        });
        relay
    }

    async fn welcome(self: &Arc<Self>, arrival: Arrival) {
        let id = arrival.connection();
        let (key, refused) = {
            let agents = self.agents.lock().unwrap();
            (agents[&id].key, agents[&id].refusal)
        };
        let refusal = |code| Refusal {
            code,
            text: format!("refused: {code:?}"),
            retry_after: Some(0),
        };
        if let Some(code) = refused {
            let said = refusal(code);
            return arrival.refuse(&self.identity, &said).await.unwrap();
        }
        let introduction = Introduction {
            software: "relay in miniature".to_owned(),
            features: Vec::new(),
            window: WINDOW,
            deactivated: false,
        };
        let claimed = arrival
            .challenge(&self.identity, &introduction, Binding::None, 0)
            .await
            .unwrap();
        let Ok(proven) = claimed.by(&key) else {
            panic!("another key");
        };
        let Link {
            inward,
            outward,
            handle,
            driver,
            ..
        } = proven.accept(false, Duration::ZERO).await.unwrap();
        let link = (LaneClient::new(inward), handle);
        let relay = Arc::clone(self);
        let hear = service_fn(move |request: Request<Incoming>| {
            let relay = Arc::clone(&relay);
            async move { relay.hear(request).await }
        });
        let (hearing, heard_enough) = oneshot::channel();
        tokio::spawn(http2::serve(outward, hear, async {
            let _ = heard_enough.await;
        }));
        if let Some(agent) = self.agents.lock().unwrap().get_mut(&id) {
            agent.link = Some(link);
            // A former one stands for a link that has ended.
            agent.hearing = Some(hearing);
            agent.links += 1;
        }
        driver.run().await;
    }

    async fn hear(&self, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        let path = request.uri().path().to_owned();
        let bytes = request.into_body().collect().await?.to_bytes();
        let said = format!("{path} {}", String::from_utf8_lossy(&bytes));
        self.heard.lock().unwrap().push(said);
        drop(self.answers.acquire().await);
        let mut response = Response::new(body::empty());
        *response.status_mut() = *self.answer.lock().unwrap();
        Ok(response)
    }

    /// Ends HTTP/2 on the lane on which this agent speaks; the link stays.
    pub(super) fn stop_hearing(&self, id: ConnectionId) {
        let mut agents = self.agents.lock().unwrap();
        drop(agents.get_mut(&id).unwrap().hearing.take());
    }

    /// How it answers what it hears from now on.
    pub(super) fn set_answer(&self, status: http::StatusCode) {
        *self.answer.lock().unwrap() = status;
    }

    /// Answers nothing until [`Self::answer_again`].
    pub(super) fn keep_silent(&self) {
        self.answers.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(super) fn answer_again(&self) {
        self.answers.add_permits(Semaphore::MAX_PERMITS);
    }

    /// Whether the relay was told something that contains these words.
    pub(super) fn has_heard(&self, words: &str) -> bool {
        self.heard
            .lock()
            .unwrap()
            .iter()
            .any(|said| said.contains(words))
    }

    /// How many links this connection has had.
    pub(super) fn links_of(&self, id: ConnectionId) -> usize {
        self.agents.lock().unwrap()[&id].links
    }

    /// Refuses this agent from now on, and lets go of its link; or welcomes it again.
    pub(super) fn set_refusal(&self, id: ConnectionId, refusal: Option<RefusalCode>) {
        let mut agents = self.agents.lock().unwrap();
        let agent = agents.get_mut(&id).unwrap();
        agent.refusal = refusal;
        if let Some((_, handle)) = agent.link.take() {
            handle.close(crate::protocol::CloseCode::Draining, "");
        }
    }

    /// Tells the agent, over its live link.
    pub(super) async fn tell(&self, id: ConnectionId, path: &str, json: &str) -> http::StatusCode {
        let client = {
            let agents = self.agents.lock().unwrap();
            agents[&id].link.as_ref().unwrap().0.clone()
        };
        let request = Request::post(format!("http://~control{path}"))
            .body(body::full(json.to_owned()))
            .unwrap();
        client.send(request).await.unwrap().status()
    }
}

/// An agent's supervisor at work on a state directory.
pub(super) struct Stage {
    pub(super) relay: Arc<Relay>,
    pub(super) state: Arc<StateDirectory>,
    shutdown: Shutdown,
    commands: Option<Commands>,
    _directory: tempfile::TempDir,
}

impl Stage {
    pub(super) async fn set() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&directory.path().join("state")).unwrap();
        Self {
            relay: Relay::start().await,
            state: Arc::new(state),
            shutdown: Shutdown::new(),
            commands: None,
            _directory: directory,
        }
    }

    /// A connection that was accepted earlier, and that the relay knows.
    pub(super) fn accepted(&self, name: &str) -> ConnectionId {
        self.accepted_from(&self.relay.url, name)
    }

    /// As [`Self::accepted`], from whatever is at `url`.
    pub(super) fn accepted_from(&self, url: &str, name: &str) -> ConnectionId {
        let record = ConnectionRecord {
            relay_url: url.parse().unwrap(),
            relay_identity: self.relay.identity.public_key(),
            ..example(name)
        };
        let id = record.connection;
        let key = self.state.key_for_accepting(id).unwrap().public_key();
        self.state.save(&record).unwrap();
        let agent = Agent {
            key,
            refusal: None,
            link: None,
            hearing: None,
            links: 0,
        };
        self.relay.agents.lock().unwrap().insert(id, agent);
        id
    }

    pub(super) fn standing(&self, id: ConnectionId) -> Option<Standing> {
        Some(self.state.read(id).unwrap()?.standing)
    }

    /// Starts the supervisor, or starts it anew as after a restart of the daemon.
    pub(super) async fn start(&mut self) {
        let supervisor = self.supervisor().await;
        self.run(supervisor);
    }

    pub(super) fn run(&self, supervisor: Supervisor) {
        self.shutdown.spawn(supervisor.run());
    }

    /// A supervisor that does not run yet, in the place of the former.
    pub(super) async fn supervisor(&mut self) -> Supervisor {
        self.shutdown.stop_now();
        self.shutdown.wait_all(DEADLINE).await;
        self.shutdown = Shutdown::new();
        let (commands, received) = command::channel();
        let config = read("[network]\nproxy = 'none'\n").unwrap();
        let live = Arc::new(Live::new(&config, Audit::off()).unwrap());
        let (supervisor, _) = Supervisor::new(
            Arc::clone(&self.state),
            live,
            self.shutdown.clone(),
            received,
            None,
        )
        .unwrap();
        self.commands = Some(commands);
        supervisor
    }

    pub(super) fn commands(&self) -> &Commands {
        self.commands.as_ref().unwrap()
    }

    pub(super) async fn connection(&self, name: &str) -> Option<ConnectionStatus> {
        let asked = self.commands().ask(|reply| Command::Connections { reply });
        let all = asked.await.unwrap();
        all.into_iter().find(|connection| connection.name == name)
    }

    /// Waits until a connection looks as wanted.
    pub(super) async fn until(
        &self,
        name: &str,
        wanted: impl Fn(&ConnectionStatus) -> bool,
    ) -> ConnectionStatus {
        let waiting = async {
            loop {
                if let Some(connection) = self.connection(name).await.filter(|it| wanted(it)) {
                    return connection;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(connection) => connection,
            Err(_) => panic!("{:?}", self.connection(name).await),
        }
    }

    pub(super) async fn until_online(&self, name: &str) -> ConnectionStatus {
        self.until(name, |connection| connection.link.is_online())
            .await
    }

    pub(super) async fn until_true(&self, wanted: impl Fn() -> bool) {
        let waiting = async {
            while !wanted() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.unwrap();
    }

    /// Makes the task of a connection panic.
    pub(super) async fn fail(&self, name: &str) {
        let name = name.to_owned();
        let asked = self.commands().ask(|reply| Command::Fail { name, reply });
        // The answer's channel goes down with the task.
        assert!(asked.await.is_err());
    }

    pub(super) async fn remove(&self, name: &str) -> Result<command::Removal, CommandError> {
        let name = name.to_owned();
        let asked = self.commands().ask(|reply| Command::Remove { name, reply });
        asked.await.unwrap()
    }

    pub(super) async fn set_deactivated(
        &self,
        name: &str,
        deactivated: bool,
    ) -> Result<ConnectionStatus, CommandError> {
        let name = name.to_owned();
        let asked = self.commands().ask(|reply| Command::SetDeactivated {
            name,
            deactivated,
            reply,
        });
        asked.await.unwrap()
    }
}
