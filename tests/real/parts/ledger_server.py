"""The private service of the survival tests: it notes every order that reaches it, and streams for as long as asked.

usage: ledger_server.py PORT SOCKET
GET /small; POST /orders/ID; GET /download?seconds=&rate= (bytes, then their SHA-256); POST /upload (answers length and
SHA-256); GET /events?seconds= (numbered, then `end`); GET /socket (a WebSocket that says everything again).
GET /ledger, on the Unix socket: how often each order arrived.
"""

import asyncio
import collections
import hashlib
import sys
import time

from aiohttp import web

PIECE = 16 * 1024
EVENT_EVERY = 0.05
# An order is noted when it arrives and answered later, so that some are always under way.
ORDER_TAKES = 0.25

orders = collections.Counter()


async def small(_):
    return web.Response(text="small")


async def order(request):
    body = await request.text()
    orders[request.match_info["id"]] += 1
    await asyncio.sleep(ORDER_TAKES)
    return web.Response(text=f"done {body}")


async def download(request):
    end = time.monotonic() + float(request.query["seconds"])
    pause = PIECE / float(request.query["rate"])
    response = web.StreamResponse()
    await response.prepare(request)
    digest, number = hashlib.sha256(), 0
    while time.monotonic() < end:
        # No two pieces look alike.
        piece = number.to_bytes(8, "big") * (PIECE // 8)
        digest.update(piece)
        await response.write(piece)
        number += 1
        await asyncio.sleep(pause)
    await response.write(digest.digest())
    return response


async def upload(request):
    digest, length = hashlib.sha256(), 0
    async for piece in request.content.iter_any():
        digest.update(piece)
        length += len(piece)
    return web.Response(text=f"{length} {digest.hexdigest()}")


async def events(request):
    end = time.monotonic() + float(request.query["seconds"])
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    number = 0
    while time.monotonic() < end:
        await response.write(f"data: {number}\n\n".encode())
        number += 1
        await asyncio.sleep(EVENT_EVERY)
    await response.write(b"data: end\n\n")
    return response


async def conversation(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def ledger(_):
    return web.json_response(orders)


async def serve():
    service = web.Application(client_max_size=1 << 40)
    service.add_routes(
        [
            web.get("/small", small),
            web.post("/orders/{id}", order),
            web.get("/download", download),
            web.post("/upload", upload),
            web.get("/events", events),
            web.get("/socket", conversation),
        ]
    )
    books = web.Application()
    books.add_routes([web.get("/ledger", ledger)])
    for application, site in [
        (service, lambda runner: web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]))),
        (books, lambda runner: web.UnixSite(runner, sys.argv[2])),
    ]:
        runner = web.AppRunner(application)
        await runner.setup()
        await site(runner).start()
    await asyncio.Event().wait()


asyncio.run(serve())
