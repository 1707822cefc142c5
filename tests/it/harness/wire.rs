//! The network between two parts, as a test wants it: it passes, loses answers, or is cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A wire with one end on loopback, leading to an address that may be set later.
pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

struct Shared {
    to: Mutex<String>,
    mode: watch::Sender<Mode>,
    /// Ticks to cut what is connected.
    cuts: watch::Sender<u64>,
}

/// What a wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All passes.
    Pass,
    /// From the second message on, nothing comes back: an answer is lost after TLS stands.
    LoseAnswers,
    /// Nobody gets through.
    Down,
}

impl Wire {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to: Mutex::default(),
            mode: watch::Sender::new(Mode::Pass),
            cuts: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn lead_to(&self, authority: String) {
        *self.shared.to.lock().unwrap() = authority;
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Cuts everything that is connected, without a word to either end.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let mut cuts = shared.cuts.subscribe();
            tokio::select! {
                () = carry(near, &shared) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn carry(near: TcpStream, shared: &Shared) {
    let to = shared.to.lock().unwrap().clone();
    if *shared.mode.borrow() == Mode::Down {
        return;
    }
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let messages = watch::Sender::new(0_u64);
    let forth = async {
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = from_near.read(&mut buffer).await {
            messages.send_modify(|count| *count += 1);
            if to_far.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = from_far.read(&mut buffer).await {
            let is_lost = *messages.borrow() > 1 && *shared.mode.borrow() == Mode::LoseAnswers;
            if !is_lost && to_near.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = forth => {}
        () = back => {}
    }
}
