//! What comes out of a connection that is read strictly, in whatever pieces it went in.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// What hyper gets to read of these pieces, and why there is no more.
async fn through(pieces: &[&[u8]]) -> (Vec<u8>, Option<Malformed>, bool) {
    let (mut near, far) = tokio::io::duplex(1024 * 1024);
    let (mut strict, watch) = Strict::new(far);
    let mut read = Vec::new();
    let mut is_broken = false;
    for piece in pieces {
        near.write_all(piece).await.unwrap();
        let mut room = [0; 8192];
        while let Some(count) = futures_util::FutureExt::now_or_never(strict.read(&mut room)) {
            match count {
                Ok(count) => read.extend_from_slice(&room[..count]),
                Err(_) => is_broken = true,
            }
            if is_broken {
                break;
            }
        }
    }
    (read, watch.refusal(), is_broken)
}

const TWO: &str = "POST /a HTTP/1.1\r\nHost: relay\r\nContent-Length: 3\r\n\r\nabc\
                   \r\nPOST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";

#[tokio::test]
async fn plain_requests_pass_byte_for_byte() {
    let (read, refusal, is_broken) = through(&[TWO.as_bytes()]).await;
    assert_eq!(String::from_utf8(read).unwrap(), TWO);
    assert_eq!((refusal, is_broken), (None, false));
}

#[tokio::test]
async fn a_refused_request_has_its_turn_after_those_before_it_and_nothing_comes_after_it() {
    let text = format!("{TWO}GET /c#d HTTP/1.1\r\n\r\nGET /e HTTP/1.1\r\n\r\n");
    let (read, refusal, _) = through(&[text.as_bytes(), b"GET /f HTTP/1.1\r\n\r\n"]).await;
    let expected = [TWO.as_bytes(), STAND_IN].concat();
    assert_eq!(read, expected);
    assert_eq!(refusal, Some(Malformed::Fragment));
}

#[tokio::test]
async fn nothing_of_a_head_is_handed_on_before_its_end() {
    let half = b"GET /a HTTP/1.1\r\nHost: relay\r\nContent-Length: 1\r\n";
    let (read, ..) = through(&[half]).await;
    assert_eq!(read, b"");
    let (read, refusal, _) = through(&[half, b"Transfer-Encoding: chunked\r\n\r\n"]).await;
    assert_eq!(read, STAND_IN);
    assert_eq!(refusal, Some(Malformed::LengthAndCoding));
}

#[tokio::test]
async fn a_body_that_is_malformed_breaks_the_connection() {
    let head = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let text = format!("{head}3\nabc\r\n0\r\n\r\n");
    let (read, refusal, is_broken) = through(&[text.as_bytes()]).await;
    assert_eq!(String::from_utf8(read).unwrap(), head);
    assert_eq!((refusal, is_broken), (None, true));
}

#[tokio::test]
async fn a_head_is_no_longer_than_it_may_be() {
    let long = "x".repeat(MAX_HEAD_BYTES);
    let (_, refusal, _) = through(&[format!("GET /{long}").as_bytes()]).await;
    assert_eq!(refusal, Some(Malformed::TargetTooLong));
    let (_, refusal, _) = through(&[format!("GET / HTTP/1.1\r\nA: {long}").as_bytes()]).await;
    assert_eq!(refusal, Some(Malformed::HeadTooLarge));
}

#[tokio::test]
async fn a_tunnel_carries_whatever_it_likes() {
    let (mut near, far) = tokio::io::duplex(1024);
    let (mut strict, watch) = Strict::new(far);
    near.write_all(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\nearly")
        .await
        .unwrap();
    let mut room = [0; 64];
    let count = strict.read(&mut room).await.unwrap();
    assert!(room[..count].ends_with(b"\r\n\r\n"));
    watch.becomes_tunnel();
    near.write_all(b" \n\0").await.unwrap();
    drop(near);
    let mut rest = Vec::new();
    strict.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"early \n\0");
}

proptest! {
    #[test]
    fn the_pieces_in_which_it_comes_make_no_difference(
        text in "(GET /a(#b)? HTTP/1\\.[01]\r?\n(A: b\r\n|Content-Length: 3\r\n|Transfer-Encoding: chunked\r\n){0,3}\r\n(abc|3\r\nabc\r\n0\r\n\r\n)?){1,3}",
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let whole = runtime.block_on(through(&[text.as_bytes()]));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        let pieced = runtime.block_on(through(&pieces));
        prop_assert_eq!(&whole.1, &pieced.1);
        // A broken body is handed on as far as it came before the fault.
        if !whole.2 {
            prop_assert_eq!(whole, pieced);
        }
    }
}

/// What hyper makes of these bytes when it reads them strictly: how many requests, and what it says.
async fn by_hyper(bytes: &[u8]) -> (usize, Vec<u8>) {
    let (mut near, far) = tokio::io::duplex(1024 * 1024);
    let (strict, watch) = Strict::new(far);
    let count = std::sync::atomic::AtomicUsize::new(0);
    let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| {
        let is_refused = request.uri().path() == REFUSED && watch.refusal().is_some();
        count.fetch_add(usize::from(!is_refused), Ordering::Relaxed);
        async {
            use http_body_util::BodyExt as _;
            let _ = request.into_body().collect().await;
            Ok::<_, std::convert::Infallible>(http::Response::new(crate::body::full("x")))
        }
    });
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let connection = hyper::server::conn::http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .half_close(true)
        .serve_connection(hyper_util::rt::TokioIo::new(strict), service);
    let _ = connection.await;
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.unwrap();
    (count.into_inner(), said)
}

fn request_lines() -> impl Strategy<Value = String> {
    let line =
        "(GET|POST|G@T|) ?/[a-z<>`\"{}|^?#%\u{e4}]{0,4} (HTTP/1\\.[01]|HTTP/1\\.1 |http/1\\.1|)";
    prop_oneof![Just("POST /a HTTP/1.1".to_owned()), line]
}

fn header_lines() -> impl Strategy<Value = String> {
    let others = "[A-Za-z:(\\[ \t]{0,3}:[ -~\t\u{0}\u{e4}]{0,6}";
    prop_oneof![
        4 => proptest::sample::select(vec![
            "Content-Length: 3", "content-length:3", "Content-Length: +3", "Content-Length: 3,3",
            "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "transfer-encoding: CHUNKED",
            "Connection: close", "Host: a", "Expect: 100-continue", "Upgrade: x",
        ]).prop_map(str::to_owned),
        1 => others,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn hyper_has_nothing_to_refuse_and_sees_no_other_requests(
        requests in proptest::collection::vec((
            request_lines(),
            proptest::collection::vec(header_lines(), 0..4),
            proptest::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r"]),
            proptest::sample::select(vec!["", "abc", "3\r\nabc\r\n0\r\n\r\n", "3;x\r\nabc\r\n0\r\nA: b\r\n\r\n", "0\n\n"]),
        ), 1..4),
    ) {
        let text: String = requests.iter().map(|(line, headers, end, body)| {
            let head: Vec<_> = std::iter::once(line).chain(headers).map(String::as_str).collect();
            format!("{}{end}\r\n{body}", head.join(end))
        }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (count, said) = runtime.block_on(by_hyper(text.as_bytes()));
        let said = String::from_utf8_lossy(&said);
        prop_assert!(!said.contains("HTTP/1.1 400"), "{text:?} {said:?}");
        // What the same framing lets through, counted without hyper.
        let mut framing = Framing::default();
        let mut heads = 0;
        let mut rest = text.as_bytes();
        loop {
            let is_head = matches!(framing, Framing::Head(..));
            match framing.step(rest) {
                Ok(taken) if taken > 0 => rest = &rest[taken..],
                Ok(_) | Err(_) => break,
            }
            heads += usize::from(is_head);
        }
        // It may stop earlier, where a connection ends, and never sees more.
        prop_assert!(count <= heads, "{text:?}: {count} of {heads}");
    }
}

#[tokio::test]
async fn only_a_socket_whose_closing_says_it_all_is_not_shut_down_first_and_a_tunnel_always_is() {
    let ended = async |ends_by_closing: bool, is_tunnel: bool| {
        let (mut near, far) = tokio::io::duplex(64);
        let (mut strict, watch) = Strict::new(far);
        if ends_by_closing {
            strict.end_by_closing();
        }
        if is_tunnel {
            watch.becomes_tunnel();
        }
        strict.shutdown().await.unwrap();
        let read = futures_util::FutureExt::now_or_never(near.read(&mut [0; 8]));
        read.map(Result::unwrap) == Some(0)
    };
    assert!(ended(false, false).await);
    assert!(!ended(true, false).await);
    assert!(ended(true, true).await);
}

/// Whether someone was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[tokio::test]
async fn nobody_listens_during_the_first_request_once_it_is_whole_until_its_answer_or_the_end_of_the_rest()
 {
    let request = b"POST /a HTTP/1.1\r\nHost: relay\r\nContent-Length: 3\r\n\r\nabc";
    for answers in [true, false] {
        let woken = Arc::<Woken>::default();
        let waker = std::task::Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let (mut near, far) = tokio::io::duplex(1024);
        let (mut strict, watch) = Strict::new(far);
        strict.rest_during_first();
        let mut room = [0; 1024];
        let mut poll = |strict: &mut Strict<_>| {
            let mut target = ReadBuf::new(&mut room);
            let polled = Pin::new(strict).poll_read(&mut context, &mut target);
            (polled.is_ready(), target.filled().len())
        };
        let (first, rest) = request.split_at(request.len() - 1);
        near.write_all(first).await.unwrap();
        assert_eq!(poll(&mut strict), (true, first.len()));
        assert_eq!(poll(&mut strict), (false, 0));
        near.write_all(rest).await.unwrap();
        assert!(woken.0.swap(false, Ordering::AcqRel), "it was not whole");
        assert_eq!(poll(&mut strict), (true, rest.len()));

        assert_eq!(poll(&mut strict), (false, 0));
        near.write_all(request).await.unwrap();
        assert_eq!(poll(&mut strict), (false, 0), "it rests");
        assert!(!woken.0.load(Ordering::Acquire));
        if answers {
            strict.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        } else {
            watch.end_rest();
        }
        assert!(woken.0.swap(false, Ordering::AcqRel));
        assert_eq!(poll(&mut strict), (true, request.len()));
        assert_eq!(poll(&mut strict), (false, 0), "nothing is there");
        near.write_all(request).await.unwrap();
        assert!(woken.0.load(Ordering::Acquire), "it listens");
    }
}

#[tokio::test]
async fn who_asked_for_more_during_the_rest_is_woken_by_the_answer() {
    let woken = Arc::<Woken>::default();
    let waker = std::task::Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let (mut near, far) = tokio::io::duplex(1024);
    let (mut strict, _watch) = Strict::new(far);
    strict.rest_during_first();
    let mut room = [0; 1024];
    near.write_all(b"GET /a HTTP/1.1\r\n\r\n").await.unwrap();
    for is_ready in [true, false] {
        let mut target = ReadBuf::new(&mut room);
        let polled = Pin::new(&mut strict).poll_read(&mut context, &mut target);
        assert_eq!(polled.is_ready(), is_ready);
    }
    let written = Pin::new(&mut strict).poll_write(&mut context, b"HTTP/1.1 200 OK\r\n\r\n");
    assert!(written.is_ready());
    assert!(woken.0.load(Ordering::Acquire));
}
