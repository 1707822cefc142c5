"""Answers nobody before a given number of requests are waiting; then all of them, and begins anew.

usage: barrier_server.py PORT COUNT
"""

import asyncio
import sys

port, count = int(sys.argv[1]), int(sys.argv[2])
waiting = 0
everybody = asyncio.Event()


async def serve(reader, writer):
    global waiting, everybody
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            together = everybody
            waiting += 1
            if waiting == count:
                together.set()
                waiting, everybody = 0, asyncio.Event()
            await together.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall here")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096):
        await asyncio.Future()


asyncio.run(main())
