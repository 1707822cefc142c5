"""Mixed load of callers on the relay for a while, and what became of all of it, as one row of a table.

usage: RELAY_TOKEN=… mixed_load.py URL AUTHORITY LEDGER_SOCKET SCENARIO SECONDS [--calls N] [--rate N] [--may-fail]
Small GETs and POSTs with ids (N of each a second), a long download and a long upload (N bytes a second, verified by
hash), an event stream and a WebSocket (verified by number). What breaks is begun anew.

Every answer must be the right one: 200 with the right body; 503 saying `not-sent` for what never reached the service;
502 saying `unknown`. Without --may-fail, nothing may fail at all. The row goes to standard output, what was wrong to
standard error; the exit status is 1 when anything was.
"""

import argparse
import asyncio
import collections
import hashlib
import os
import ssl
import sys
import time

import aiohttp

# How long a call may wait for its answer, and a stream for its next piece: longer than a link may be away.
PATIENCE = 150
PIECE = 16 * 1024
SPEAK_EVERY = 0.1
# What breaks is begun anew after this, in seconds.
AGAIN_AFTER = 0.2

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("authority")
parser.add_argument("ledger")
parser.add_argument("scenario")
parser.add_argument("seconds", type=float)
parser.add_argument("--calls", type=float, default=20)
parser.add_argument("--rate", type=float, default=2_000_000)
parser.add_argument("--may-fail", action="store_true")
options = parser.parse_args()

begun = time.monotonic()
counts = collections.Counter()
told = {}
faults = []
slowest = 0.0


class Told(Exception):
    """A call that was not answered by the service: what its caller was told instead."""


class Wrong(Exception):
    """Something that no caller may see."""


def left():
    return options.seconds - (time.monotonic() - begun)


async def check_head(response):
    """Raises what the caller was told, unless the service answered."""
    if response.status in (200, 101):
        return
    body = await response.text()
    try:
        delivery = (await response.json(content_type=None))["delivery"]
    except (ValueError, KeyError, TypeError):
        delivery = None
    match response.status, delivery:
        case 503, "not-sent":
            raise Told("not sent")
        case 502, "unknown":
            raise Told("unknown")
    raise Wrong(f"{response.status}: {body[:300]}")


async def judged(name, exchange):
    """Runs one exchange with the relay; returns what it was told, `answered` when all went well."""
    counts["requests"] += 1
    try:
        await asyncio.wait_for(exchange, PATIENCE if name == "call" else None)
        outcome = "answered"
    except Told as error:
        outcome = str(error)
    except Wrong as error:
        outcome = "wrong"
        faults.append(f"{name}: {error}")
    except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError) as error:
        # The relay is not there, went away, or broke off what it had begun.
        outcome = "broken off"
        if not options.may_fail:
            faults.append(f"{name}: {error!r}")
    except (TimeoutError, asyncio.TimeoutError):
        outcome = "wrong"
        faults.append(f"{name}: nothing came for {PATIENCE} s")
    counts[outcome] += 1
    return outcome


async def get(session):
    async with session.get("small") as response:
        await check_head(response)
        if await response.text() != "small":
            raise Wrong("another body")


async def post(session, order):
    async with session.post(f"orders/{order}", data=order) as response:
        await check_head(response)
        if await response.text() != f"done {order}":
            raise Wrong("another order's answer")


async def call(exchange, order=None):
    global slowest
    start = time.monotonic()
    outcome = await judged("call", exchange)
    if outcome == "answered":
        slowest = max(slowest, time.monotonic() - start)
    if order:
        told[order] = outcome


async def calls(session):
    under_way, number = set(), 0
    while left() > 0:
        order = f"{options.scenario}-{number}".replace(" ", "-").replace("%", "")
        for coroutine in call(get(session)), call(post(session, order), order):
            task = asyncio.create_task(coroutine)
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        number += 1
        await asyncio.sleep(1 / options.calls)
    while under_way:
        await asyncio.wait(under_way)


async def pieces(response):
    while piece := await asyncio.wait_for(response.content.readany(), PATIENCE):
        yield piece


async def download(session):
    asked = {"seconds": f"{left():.1f}", "rate": f"{options.rate:.0f}"}
    async with session.get("download", params=asked) as response:
        await check_head(response)
        digest, last = hashlib.sha256(), b""
        async for piece in pieces(response):
            last += piece
            digest.update(last[:-32])
            counts["bytes down"] += max(0, len(last) - 32)
            last = last[-32:]
        if digest.digest() != last:
            raise Wrong("a download looks whole and is not")


async def upload(session):
    digest, length = hashlib.sha256(), 0

    async def body():
        nonlocal length
        while left() > 0:
            piece = length.to_bytes(8, "big") * (PIECE // 8)
            digest.update(piece)
            length += len(piece)
            yield piece
            await asyncio.sleep(PIECE / options.rate)

    async with session.post("upload", data=body()) as response:
        await check_head(response)
        if await response.text() != f"{length} {digest.hexdigest()}":
            raise Wrong("an upload looks whole and is not")
        counts["bytes up"] += length


async def events(session):
    async with session.get("events", params={"seconds": f"{left():.1f}"}) as response:
        await check_head(response)
        text = b""
        async for piece in pieces(response):
            text += piece
    heard = [line.removeprefix("data: ") for line in text.decode().split("\n") if line]
    if heard != [str(number) for number in range(len(heard) - 1)] + ["end"]:
        raise Wrong("an event stream looks whole and is not")


async def conversation(session):
    try:
        opened = await session.ws_connect("socket")
    except aiohttp.WSServerHandshakeError as error:
        # The body is not to be had here; the status is either of the two that may be.
        raise Told({502: "unknown", 503: "not sent"}[error.status]) if error.status in (502, 503) else Wrong(repr(error))
    async with opened as socket:
        said = 0

        async def hear():
            number = 0
            while number < said or not is_over:
                message = await socket.receive(PATIENCE)
                if message.type != aiohttp.WSMsgType.TEXT:
                    raise aiohttp.ServerDisconnectedError(f"the WebSocket ended: {message.type}")
                if message.data != str(number):
                    raise Wrong(f"a WebSocket said {message.data} in place of {number}")
                number += 1

        is_over = False
        hearing = asyncio.create_task(hear())
        while left() > 0 and not hearing.done():
            said += 1
            try:
                await socket.send_str(str(said - 1))
            except aiohttp.ClientConnectionResetError:
                break
            await asyncio.sleep(SPEAK_EVERY)
        is_over = True
        # One more, so that the hearing ends with an answer in any case.
        said += 1
        try:
            await socket.send_str(str(said - 1))
        except aiohttp.ClientConnectionResetError:
            pass
        await hearing


async def streams(name, stream, session):
    """One after the other until the time is over; what looks whole must be whole."""
    while left() > 0:
        outcome = await judged(name, stream(session))
        counts["streams whole" if outcome == "answered" else "streams ended early"] += 1
        if outcome != "answered":
            await asyncio.sleep(AGAIN_AFTER)


async def ledger():
    connector = aiohttp.UnixConnector(options.ledger)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get("http://ledger/ledger") as response:
            return await response.json()


async def main():
    trust = ssl.create_default_context(cafile=options.authority)
    headers = {"Relay-Authorization": f"Bearer {os.environ['RELAY_TOKEN']}"}
    async with aiohttp.ClientSession(
        options.url + "/",
        headers=headers,
        connector=aiohttp.TCPConnector(ssl=trust, limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=1 << 20,
    ) as session:
        parts = [calls(session)]
        for stream in download, upload, events, conversation:
            parts.append(streams(stream.__name__, stream, session))
        await asyncio.gather(*parts)
    arrived = await ledger()
    for order, outcome in told.items():
        times = arrived.get(order, 0)
        if times > 1:
            counts["done twice"] += 1
            faults.append(f"{order} was done {times} times")
        if outcome == "answered" and times == 0:
            counts["lost"] += 1
            faults.append(f"{order} was answered and never arrived")
        if outcome == "not sent" and times > 0:
            counts["wrong"] += 1
            faults.append(f"{order} was told not to be sent, and arrived")
    if not options.may_fail:
        for outcome in "not sent", "unknown", "broken off":
            if counts[outcome]:
                faults.append(f"{counts[outcome]} requests: {outcome}, where nothing may fail")
    columns = ["requests", "answered", "not sent", "unknown", "broken off", "wrong", "lost", "done twice"]
    cells = [f"{counts[column]:,}" for column in columns]
    moved = f"{counts['bytes down'] / 1e6:.1f} / {counts['bytes up'] / 1e6:.1f}"
    print("|", " | ".join([options.scenario, *cells, moved, f"{slowest:.1f} s"]), "|")
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


asyncio.run(main())
