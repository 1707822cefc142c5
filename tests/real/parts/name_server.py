"""A name server for one machine's tests: every name below `test` is 127.0.0.1, no other exists. Counts what it was asked.

usage: name_server.py      on 127.0.0.1, UDP port 53; prints each name
"""

import socket
import struct

HERE = socket.inet_aton("127.0.0.1")
A = 1

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    question, asker = server.recvfrom(512)
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    kind = struct.unpack("!H", question[at + 1 : at + 3])[0]
    asked = question[12 : at + 5]
    exists = labels[-1] == "test"
    answers = exists and kind == A
    print(".".join(labels), kind, flush=True)
    # A response with recursion, without an error or with "no such name".
    flags = 0x8180 if exists else 0x8183
    reply = question[:2] + struct.pack("!HHHHH", flags, 1, int(answers), 0, 0) + asked
    if answers:
        reply += struct.pack("!HHHIH", 0xC00C, A, 1, 60, 4) + HERE
    server.sendto(reply, asker)
