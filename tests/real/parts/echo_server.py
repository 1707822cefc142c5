"""Sends every WebSocket message back. A text "close CODE REASON" makes it close with these.

usage: echo_server.py PORT FILE        how each connection was closed is appended to FILE, as "CODE REASON"
"""

import asyncio
import sys

import websockets
from websockets.asyncio.server import serve

port, closed_with = int(sys.argv[1]), sys.argv[2]


async def echo(socket):
    try:
        async for message in socket:
            if isinstance(message, str) and message.startswith("close "):
                _, code, reason = message.split(" ", 2)
                await socket.close(int(code), reason)
                return
            await socket.send(message)
    except websockets.ConnectionClosed:
        pass
    finally:
        with open(closed_with, "a") as file:
            file.write(f"{socket.close_code} {socket.close_reason}\n")


def choose(_, offered):
    return "echo.v2" if "echo.v2" in offered else None


async def main():
    async with serve(echo, "127.0.0.1", port, max_size=None, select_subprotocol=choose):
        await asyncio.Future()


asyncio.run(main())
