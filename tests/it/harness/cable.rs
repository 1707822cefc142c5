//! The path between agents and a relay, in a test's hands: it is cut, holds what it was given, refuses, and is slow.
//!
//! A [`Cable`] carries TCP connections, each a *strand* of its own. What is held is not lost but waits, as packets
//! that are sent again do; a strand that is held for good is what a firewall leaves that has forgotten it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// The most that is taken from a socket at once.
const PIECE: usize = 64 * 1024;
/// Pieces of one direction that a delay keeps under way: 32 MiB, so that 50 ms are filled at 600 MB/s.
const UNDER_WAY: usize = 512;
/// What waits at either end before it is taken: the kernel would let it grow to MiB, and a slow path would look like one
/// with a deep queue.
const BUFFER: u32 = 256 * 1024;
/// The least that is slept for to keep to a rate.
const TICK: Duration = Duration::from_millis(4);
/// How long ends may take to close after an orderly end.
const FAREWELL: Duration = Duration::from_secs(5);

/// A path that leads from its own address to another.
pub(crate) struct Cable {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

/// How strands end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ends see a reset; what was under way is gone.
    Reset,
    /// Both ends see an orderly end of the stream.
    Finish,
    /// The far end sees a reset. The near end sees nothing, and whatever it sends is taken: a proxy keeps its side open.
    Behind,
}

/// Which way bytes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// From the side that dialled.
    Forth,
    /// To the side that dialled.
    Back,
    /// Either way.
    Both,
}

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// They are carried.
    Open,
    /// They are reset.
    Refusing,
    /// They are accepted, and nothing is ever carried.
    Silent,
}

struct Shared {
    to: Mutex<String>,
    orders: watch::Sender<Orders>,
    /// How many bytes each of the next strands lasts.
    lives: Mutex<VecDeque<u64>>,
    /// Bytes that came out at either end.
    carried: AtomicU64,
    arrivals: Mutex<Vec<Instant>>,
}

/// What is asked of strands; those are meant whose number is below the one named.
#[derive(Debug, Clone, Copy)]
struct Orders {
    door: Door,
    cut_below: u64,
    cut: Cut,
    held_below: u64,
    held: Held,
    delay: Duration,
    bytes_per_second: Option<u64>,
}

/// One direction of one strand.
struct Lead<'a> {
    number: u64,
    direction: Held,
    orders: watch::Receiver<Orders>,
    /// What the strand may still carry, both ways.
    left: &'a AtomicU64,
    carried: &'a AtomicU64,
}

/// A piece that is under way, and when it arrives. An empty one is the end of the stream.
type Piece = (Instant, Bytes);

/// A socket failed, or the strand has carried what it was to carry.
struct Broken;

impl Cable {
    /// One whose near end is a port of this host, and whose far end is host and port.
    pub(crate) async fn new(host: &str, to: String) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        // What it accepts has the same.
        let socket = SockRef::from(&listener);
        socket.set_recv_buffer_size(BUFFER as usize).unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Orders {
            door: Door::Open,
            cut_below: 0,
            cut: Cut::Reset,
            held_below: 0,
            held: Held::Both,
            delay: Duration::ZERO,
            bytes_per_second: None,
        };
        let shared = Arc::new(Shared {
            to: Mutex::new(to),
            orders: watch::Sender::new(orders),
            lives: Mutex::default(),
            carried: AtomicU64::new(0),
            arrivals: Mutex::default(),
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

    /// New connections lead to another host and port from now on.
    pub(crate) fn lead_to(&self, to: String) {
        *self.shared.to.lock().unwrap() = to;
    }

    /// Ends what is connected now.
    pub(crate) fn cut(&self, cut: Cut) {
        let below = self.connections();
        self.order(|orders| (orders.cut_below, orders.cut) = (below, cut));
    }

    /// Holds what is connected now; new connections pass.
    pub(crate) fn hold(&self, held: Held) {
        let below = self.connections();
        self.order(|orders| (orders.held_below, orders.held) = (below, held));
    }

    /// Lets what is held go on.
    pub(crate) fn let_go(&self) {
        self.order(|orders| orders.held_below = 0);
    }

    /// What becomes of new connections from now on.
    pub(crate) fn set_door(&self, door: Door) {
        self.order(|orders| orders.door = door);
    }

    /// How long bytes are under way in each direction, from now on.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.order(|orders| orders.delay = delay);
    }

    /// How many bytes a second each direction of each strand carries at the most.
    pub(crate) fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.order(|orders| orders.bytes_per_second = bytes_per_second);
    }

    /// Each of the next strands is cut when it has carried so many bytes, both ways together.
    pub(crate) fn cut_next_after(&self, lives: impl IntoIterator<Item = u64>) {
        self.shared.lives.lock().unwrap().extend(lives);
    }

    /// Whether all strands of [`Cable::cut_next_after`] have come.
    pub(crate) fn has_cut_all(&self) -> bool {
        self.shared.lives.lock().unwrap().is_empty()
    }

    /// Connections so far, refused ones included.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.arrivals.lock().unwrap().len() as u64
    }

    /// Bytes carried so far, both ways together.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::Relaxed)
    }

    /// When each connection came.
    pub(crate) fn arrivals(&self) -> Vec<Instant> {
        self.shared.arrivals.lock().unwrap().clone()
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.shared.orders.send_modify(change);
    }
}

impl Orders {
    const fn cuts(&self, number: u64) -> bool {
        number < self.cut_below
    }

    fn holds(&self, number: u64, direction: Held) -> bool {
        number < self.held_below && (self.held == Held::Both || self.held == direction)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with the cable, and its strands with it.
    let mut strands = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        while strands.try_join_next().is_some() {}
        let number = {
            let mut arrivals = shared.arrivals.lock().unwrap();
            arrivals.push(Instant::now());
            arrivals.len() as u64 - 1
        };
        strands.spawn(strand(near, number, Arc::clone(&shared)));
    }
}

/// From one connection's beginning to its end.
async fn strand(mut near: TcpStream, number: u64, shared: Arc<Shared>) {
    let mut orders = shared.orders.subscribe();
    let door = orders.borrow().door;
    let life = match door {
        Door::Open => shared.lives.lock().unwrap().pop_front(),
        Door::Refusing => return reset(near),
        Door::Silent => {
            // Nothing is read either: what is sent waits in the kernel.
            let _ = orders.wait_for(|orders| orders.cuts(number)).await;
            return reset(near);
        }
    };
    let to = shared.to.lock().unwrap().clone();
    let Ok(mut far) = dial(&to).await else {
        return reset(near);
    };
    for end in [&near, &far] {
        end.set_nodelay(true).unwrap();
    }
    let left = AtomicU64::new(life.unwrap_or(u64::MAX));
    let cut = {
        let lead = |direction| Lead {
            number,
            direction,
            orders: shared.orders.subscribe(),
            left: &left,
            carried: &shared.carried,
        };
        let (from_near, to_near) = near.split();
        let (from_far, to_far) = far.split();
        let carrying = async {
            tokio::try_join!(
                lead(Held::Forth).carry(from_near, to_far),
                lead(Held::Back).carry(from_far, to_near),
            )
        };
        // The strand ends with either; what was under way is lost, as it is to be.
        tokio::select! {
            carried = carrying => match carried {
                Ok(_) => return,
                Err(Broken) => Cut::Reset,
            },
            ordered = orders.wait_for(|orders| orders.cuts(number)) => {
                ordered.map_or(Cut::Reset, |orders| orders.cut)
            }
        }
    };
    match cut {
        Cut::Reset => [near, far].into_iter().for_each(reset),
        Cut::Finish => {
            let ends = async { tokio::join!(part(&mut near), part(&mut far)) };
            let _ = tokio::time::timeout(FAREWELL, ends).await;
        }
        Cut::Behind => {
            reset(far);
            swallow(&mut near).await;
        }
    }
}

/// Connects with a buffer that stays small.
async fn dial(to: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.connect(to.parse().unwrap()).await
}

impl Lead<'_> {
    /// Carries one direction to its end, or until a socket fails.
    async fn carry(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), Broken> {
        let (sender, receiver) = mpsc::channel(UNDER_WAY);
        let taking = self.take_in(from, sender);
        let giving = self.give_out(to, receiver);
        tokio::try_join!(taking, giving).map(|_| ())
    }

    async fn take_in(
        &self,
        mut from: ReadHalf<'_>,
        under_way: mpsc::Sender<Piece>,
    ) -> Result<(), Broken> {
        let mut buffer = vec![0; PIECE];
        let mut free_at = Instant::now();
        loop {
            self.while_held().await;
            let count = from.read(&mut buffer).await.map_err(|_| Broken)?;
            let Orders {
                delay,
                bytes_per_second,
                ..
            } = *self.orders.borrow();
            let may = usize::try_from(self.left.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            let passes = count.min(may);
            self.left.fetch_sub(passes as u64, Ordering::Relaxed);
            if let Some(rate) = bytes_per_second {
                let now = Instant::now();
                free_at = free_at.max(now) + Duration::from_secs_f64(passes as f64 / rate as f64);
                // Timers are no finer than this; what is ahead by less is waited for with the next piece.
                if free_at > now + TICK {
                    tokio::time::sleep_until(free_at.into()).await;
                }
            }
            let piece = Bytes::copy_from_slice(&buffer[..passes]);
            under_way
                .send((Instant::now() + delay, piece))
                .await
                .map_err(|_| Broken)?;
            match count {
                0 => return Ok(()),
                _ if passes == may => return Err(Broken),
                _ => {}
            }
        }
    }

    async fn give_out(
        &self,
        mut to: WriteHalf<'_>,
        mut under_way: mpsc::Receiver<Piece>,
    ) -> Result<(), Broken> {
        while let Some((due, piece)) = under_way.recv().await {
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
            self.while_held().await;
            let given = match piece.is_empty() {
                true => to.shutdown().await,
                false => to.write_all(&piece).await,
            };
            given.map_err(|_| Broken)?;
            let length = piece.len() as u64;
            self.carried.fetch_add(length, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns when this direction is not held.
    async fn while_held(&self) {
        let is_free = |orders: &Orders| !orders.holds(self.number, self.direction);
        if !is_free(&self.orders.borrow()) {
            let _ = self.orders.clone().wait_for(is_free).await;
        }
    }
}

/// Closes so that the other end sees a reset.
fn reset(socket: TcpStream) {
    // A socket that has failed already cannot be told how to close.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Ends one direction and reads the other to its end: closed with bytes unread, a socket would reset.
async fn part(socket: &mut TcpStream) {
    let _ = socket.shutdown().await;
    swallow(socket).await;
}

/// Takes what comes, until nothing more does.
async fn swallow(socket: &mut TcpStream) {
    let mut rest = vec![0; PIECE];
    while let Ok(1..) = socket.read(&mut rest).await {}
}
