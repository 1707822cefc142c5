//! What the private service of these tests says, right and wrong.

use crate::harness::script::Then::{self, Say, SayAndCut, Wait};

/// What the private service does.
pub(super) const LINES: &[(&str, Then)] = &[
    (
        "/whole",
        Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    ),
    (
        "/hints",
        Say(
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        ),
    ),
    (
        "/unasked",
        Say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: odd\r\n\r\n"),
    ),
    (
        "/unasked-plain",
        Say("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    ),
    ("/cut", SayAndCut("")),
    ("/cut-in-head", SayAndCut("HTTP/1.1 200 OK\r\nContent-")),
    ("/other-protocol", SayAndCut("SSH-2.0-OpenSSH\r\n")),
    ("/silent", Wait),
    (
        "/begun",
        Say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"),
    ),
    (
        "/short",
        SayAndCut("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"),
    ),
    (
        "/chunks-cut",
        SayAndCut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"),
    ),
    (
        "/chunks-odd",
        SayAndCut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nodd\r\n"),
    ),
    (
        "/long",
        Say("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{long}"),
    ),
    (
        "/long-chunks",
        Say(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nlo\r\n7d0\r\n{long}\r\n0\r\n\r\n",
        ),
    ),
    (
        "/two-lengths",
        Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi"),
    ),
    (
        "/two-other-lengths",
        Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!"),
    ),
    (
        "/list-of-lengths",
        Say("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi"),
    ),
    (
        "/lengths-of-nothing",
        Say("HTTP/1.1 304 Not Modified\r\nContent-Length: 2, 3\r\n\r\n"),
    ),
    (
        "/zero-before",
        Say("HTTP/1.1 200 OK\r\nContent-Length: 02\r\n\r\nhi"),
    ),
    (
        "/signed-length",
        Say("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi"),
    ),
    (
        "/none-with-length",
        Say("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n"),
    ),
    (
        "/unchanged-with-length",
        Say("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
    ),
    (
        "/none-in-chunks",
        Say("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ),
    (
        "/status-999",
        Say("HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nhi"),
    ),
    (
        "/status-199",
        SayAndCut("HTTP/1.1 199 Odd\r\nContent-Length: 2\r\n\r\nhi"),
    ),
    (
        "/unasked-upgrade",
        Say(
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nhi",
        ),
    ),
    (
        "/trailers",
        Say(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nConnection: close\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nX-Sum: 1\r\n\r\n",
        ),
    ),
    ("/no-length", SayAndCut("HTTP/1.1 200 OK\r\n\r\nhi")),
    (
        "/more-than-said",
        Say(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ),
    ),
];
