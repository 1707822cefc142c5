"""Reads server-sent events and acknowledges each by another call; ends with 0 when all came, in order.

usage: events_client.py URL COUNT              (RELAY_TOKEN in the environment)
"""

import os
import sys

import requests
import sseclient

url, count = sys.argv[1], int(sys.argv[2])
session = requests.Session()
session.headers["Relay-Authorization"] = f"Bearer {os.environ['RELAY_TOKEN']}"

stream = session.get(f"{url}/events", stream=True, timeout=180)
stream.raise_for_status()
assert stream.headers["Content-Type"].startswith("text/event-stream"), stream.headers

seen = 0
for event in sseclient.SSEClient(stream).events():
    assert (event.event, event.id, event.data) == ("issue", str(seen), f"event {seen}"), (event.event, event.data)
    session.post(f"{url}/acknowledge/{seen}", timeout=180).raise_for_status()
    seen += 1
assert seen == count, f"{seen} of {count} events came"
