"""A slow wire: copies frames between two interfaces, late, with jitter, and not all of them.

usage: wire.py INTERFACE INTERFACE DELAY_MS JITTER_MS LOSS_PERCENT
Each direction is late by DELAY ± JITTER, in order, as a queue in a router is. What is no IP packet is never lost:
a machine that cannot be found any more is another fault. Both interfaces need their offloads switched off (ethtool -K).
Says `stood still` when packets were later than they should be by a second or more: the machine had no time for this.
"""

import collections
import random
import select
import socket
import sys
import time

ETH_P_ALL, SOL_PACKET, PACKET_IGNORE_OUTGOING = 3, 263, 23
IP = (b"\x08\x00", b"\x86\xdd")
# Packets of one direction that are under way at once; a router with less memory drops them as well.
UNDER_WAY = 10_000
TOO_LATE = 1.0

first, second = sys.argv[1:3]
delay, jitter, loss = float(sys.argv[3]) / 1e3, float(sys.argv[4]) / 1e3, float(sys.argv[5]) / 100


def opened(interface):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.bind((interface, 0))
    end.setblocking(False)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    return end


class Direction:
    def __init__(self, source, target):
        self.source, self.target = source, target
        self.queue = collections.deque()
        self.last = 0.0

    def take(self):
        while True:
            try:
                frame = self.source.recv(65535)
            except BlockingIOError:
                return
            is_lost = frame[12:14] in IP and random.random() < loss
            if is_lost or len(self.queue) >= UNDER_WAY:
                continue
            due = time.monotonic() + delay + random.uniform(-jitter, jitter)
            self.last = max(self.last, due)
            self.queue.append((self.last, frame))

    def give(self, now):
        while self.queue and self.queue[0][0] <= now:
            due, frame = self.queue.popleft()
            if now - due >= TOO_LATE:
                print(f"stood still for {now - due:.1f} s", flush=True)
            try:
                self.target.send(frame)
            except OSError:
                # An interface that is down or full loses packets.
                pass


ends = opened(first), opened(second)
directions = [Direction(*ends), Direction(*reversed(ends))]
while True:
    now = time.monotonic()
    waits = [max(0.0, way.queue[0][0] - now) for way in directions if way.queue]
    readable, _, _ = select.select(ends, [], [], min(waits, default=None))
    for way in directions:
        if way.source in readable:
            way.take()
        way.give(time.monotonic())
