"""Talks to echo_server.py through the relay. Prints one line per check.

usage: echo_client.py URL AUTHORITY-FILE FILE-OF-THE-SERVER    (RELAY_TOKEN in the environment)
"""

import asyncio
import os
import pathlib
import ssl
import sys
import traceback

import websockets
from websockets.asyncio.client import connect

url, authority, closed_with = sys.argv[1:]
trust = ssl.create_default_context(cafile=authority)
token = {"Relay-Authorization": f"Bearer {os.environ['RELAY_TOKEN']}"}
DEADLINE_SECONDS = 120


def open_socket(**options):
    options = {"additional_headers": token, "max_size": None, **options}
    return connect(url, ssl=trust, **options)


async def text():
    async with open_socket() as socket:
        for message in ["", "plain", "ünïcode ✓", "x" * 70_000]:
            await socket.send(message)
            assert await socket.recv() == message


async def binary():
    async with open_socket() as socket:
        for message in [b"", bytes(range(256)), os.urandom(70_000)]:
            await socket.send(message)
            assert await socket.recv() == message


async def one_mebibyte():
    # Random and uncompressed: all of it travels.
    async with open_socket(compression=None) as socket:
        message = os.urandom(1 << 20)
        await socket.send(message)
        assert await socket.recv() == message


async def many_at_once():
    async with open_socket() as socket:
        messages = [f"message {number}" for number in range(1000)]
        for message in messages:
            await socket.send(message)
        assert [await socket.recv() for _ in messages] == messages


async def compression_and_subprotocol():
    async with open_socket(subprotocols=["echo.v1", "echo.v2"]) as socket:
        assert socket.subprotocol == "echo.v2", socket.subprotocol
        assert any(extension.name == "permessage-deflate" for extension in socket.protocol.extensions)
        await socket.send("aaaa" * 1000)
        assert await socket.recv() == "aaaa" * 1000


async def ping():
    async with open_socket() as socket:
        await (await socket.ping(b"are you there"))


async def close_by_the_server():
    async with open_socket() as socket:
        await socket.send("close 4001 because the server says so")
        try:
            await socket.recv()
        except websockets.ConnectionClosed:
            pass
        assert (socket.close_code, socket.close_reason) == (4001, "because the server says so"), socket.close_code


async def close_by_the_client():
    async with open_socket() as socket:
        await socket.send("hello")
        await socket.recv()
        await socket.close(3005, "because the client says so")
    while "3005 because the client says so" not in pathlib.Path(closed_with).read_text():
        await asyncio.sleep(0.05)


async def refused_without_token():
    try:
        async with open_socket(additional_headers={}):
            raise AssertionError("it was let in")
    except websockets.InvalidStatus as refusal:
        assert refusal.response.status_code == 401, refusal.response.status_code


CHECKS = {
    "text": text,
    "binary": binary,
    "a message of 1 MiB": one_mebibyte,
    "a thousand messages in order": many_at_once,
    "compression and subprotocol": compression_and_subprotocol,
    "ping and pong": ping,
    "close code of the server": close_by_the_server,
    "close code of the client": close_by_the_client,
    "401 without a token": refused_without_token,
}


async def main():
    failed = False
    for name, question in CHECKS.items():
        try:
            await asyncio.wait_for(question(), DEADLINE_SECONDS)
            print(f"ok websocket: {name}", flush=True)
        except Exception:  # whatever goes wrong is this check's result
            failed = True
            print(f"not ok websocket: {name}", flush=True)
            traceback.print_exc()
    return failed


sys.exit(asyncio.run(main()))
