//! A private service that keeps every byte it is sent, and reads requests as strictly as one can.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// What relay and agent say in `Via`.
const VIAS: [&str; 4] = ["1.0 relay-", "1.1 relay-", "2 relay-", "2 agent-"];
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The service, until it is dropped.
pub(super) struct Recorder {
    address: SocketAddr,
    record: Arc<Record>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Record {
    requests: Mutex<Vec<Arc<Arrived>>>,
    /// Requests that have begun and have not ended.
    open: AtomicUsize,
}

/// A request as it arrived, byte for byte.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    head: String,
    body: Vec<u8>,
    trailers: String,
    /// Whether it came to its end.
    is_whole: bool,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let accepting = accept(listener, Arc::clone(&record));
        Self {
            address,
            record,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether every request that began has ended or was cut.
    pub(super) fn is_at_rest(&self) -> bool {
        self.record.open.load(Ordering::SeqCst) == 0
    }

    /// All that arrived.
    pub(super) fn take(&self) -> Vec<Arc<Arrived>> {
        std::mem::take(&mut *self.record.requests.lock().unwrap())
    }
}

impl Arrived {
    /// The case that it belongs to.
    pub(super) fn case(&self) -> Option<usize> {
        let (_, case) = self.headers().find(|(name, _)| *name == "x-case")?;
        case.parse().ok()
    }

    /// Method and target; with a word where it was cut.
    pub(super) fn line(&self) -> String {
        let line = self.head.split("\r\n").next().unwrap();
        let line = line.strip_suffix(" HTTP/1.1").unwrap_or(line);
        let end = if self.is_whole { "" } else { " (cut)" };
        format!("{line}{end}")
    }

    /// What it has that it may not have, or lacks. The bytes are read strictly here.
    pub(super) fn complaints(&self, host: &str, passes: &[String], body: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let lines = self.head.matches('\n').count();
        if self.head.matches("\r\n").count() != lines || self.head.matches('\r').count() != lines {
            wrong.push(format!("has a bare CR or LF: {:?}", self.head));
        }
        if !self.trailers.is_empty() {
            wrong.push(format!("has trailers: {:?}", self.trailers));
        }
        if self.is_whole && self.body != body.as_bytes() {
            let body = String::from_utf8_lossy(&self.body);
            wrong.push(format!("has the body {body:?}"));
        }
        let mut expected: Vec<String> = passes.iter().map(|it| plain(it)).collect();
        expected.push(format!("host: {host}"));
        expected.push("forwarded: for=127.0.0.1;proto=http".to_owned());
        for (name, value) in self.headers() {
            let is_known = match name {
                "x-case" => true,
                "via" => VIAS.iter().any(|entry| value.starts_with(entry)),
                "content-length" => value == self.body.len().to_string() || !self.is_whole,
                "transfer-encoding" => value == "chunked",
                // The relay's number of the call.
                "x-request-id" => value.parse::<u64>().is_ok(),
                _ => false,
            };
            let line = format!("{name}: {value}");
            match expected.iter().position(|it| *it == line) {
                Some(place) => drop(expected.swap_remove(place)),
                None if is_known => {}
                None => wrong.push(format!("has {line:?}")),
            }
        }
        let framings = self.headers().filter(|(name, _)| is_framing(name)).count();
        if framings > 1 {
            wrong.push("says its length twice".to_owned());
        }
        wrong.extend(expected.into_iter().map(|line| format!("lacks {line:?}")));
        wrong
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.head.split("\r\n").skip(1);
        lines.filter_map(|line| line.split_once(": "))
    }
}

fn is_framing(name: &str) -> bool {
    matches!(name, "content-length" | "transfer-encoding")
}

/// A header line as hyper writes it.
fn plain(line: &str) -> String {
    let (name, value) = line.split_once(':').unwrap();
    format!("{}: {}", name.to_lowercase(), value.trim())
}

async fn accept(listener: TcpListener, record: Arc<Record>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        connections.spawn(serve(tcp, Arc::clone(&record)));
    }
}

async fn serve(mut tcp: TcpStream, record: Arc<Record>) {
    let mut bytes = Vec::new();
    loop {
        if bytes.is_empty() && tcp.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        record.open.fetch_add(1, Ordering::SeqCst);
        let mut request = Arrived::default();
        let read = read(&mut tcp, &mut bytes, &mut request).await;
        request.is_whole = read.is_some();
        record.requests.lock().unwrap().push(Arc::new(request));
        record.open.fetch_sub(1, Ordering::SeqCst);
        if read.is_none() || tcp.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

/// Reads one request; nothing where it has no end.
async fn read(tcp: &mut TcpStream, bytes: &mut Vec<u8>, request: &mut Arrived) -> Option<()> {
    let head = until(tcp, bytes, b"\r\n\r\n").await;
    request.head = String::from_utf8_lossy(head.as_deref().unwrap_or(bytes)).into_owned();
    head?;
    let length = |(name, value): (&str, &str)| (name == "content-length").then(|| value.parse());
    let length: usize = match request.headers().find_map(length) {
        Some(length) => length.ok()?,
        None => 0,
    };
    let is_chunked = request
        .headers()
        .any(|(name, _)| name == "transfer-encoding");
    if request.headers().any(|(name, _)| name == "expect") {
        tcp.write_all(CONTINUE).await.ok()?;
    }
    if !is_chunked {
        request.body = exactly(tcp, bytes, length).await?;
        return Some(());
    }
    loop {
        let size = until(tcp, bytes, b"\r\n").await?;
        let size = std::str::from_utf8(&size).ok()?.trim_end();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            break;
        }
        let chunk = exactly(tcp, bytes, size).await?;
        request.body.extend(chunk);
        exactly(tcp, bytes, 2).await?;
    }
    loop {
        let line = until(tcp, bytes, b"\r\n").await?;
        if line == b"\r\n" {
            return Some(());
        }
        request.trailers += &String::from_utf8_lossy(&line);
    }
}

async fn until(tcp: &mut TcpStream, bytes: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = bytes.windows(end.len()).position(|it| it == end) {
            return Some(bytes.drain(..at + end.len()).collect());
        }
        (tcp.read_buf(bytes).await.ok()? > 0).then_some(())?;
    }
}

async fn exactly(tcp: &mut TcpStream, bytes: &mut Vec<u8>, count: usize) -> Option<Vec<u8>> {
    while bytes.len() < count {
        (tcp.read_buf(bytes).await.ok()? > 0).then_some(())?;
    }
    Some(bytes.drain(..count).collect())
}
