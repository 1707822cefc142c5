"""Four callers that ask without a pause, each time by a new connection, until a file appears.

usage: steady_calls.py AUTHORITY TOKEN URL STOP-FILE [ALLOWED]

Says how many calls were answered with 200, what became of the others, and how long the slowest took; ends with 1 if one
was not answered, or none was made. Answers that contain ALLOWED are no failures.
"""

import collections
import http.client
import os
import ssl
import sys
import threading
import time
from urllib.parse import urlsplit

CALLERS = 4
# Far longer than the relay keeps a call waiting for its agent.
LIMIT = 60

authority, token, url, stop, *allowed = sys.argv[1:]
place = urlsplit(url)
context = ssl.create_default_context(cafile=authority)
lock = threading.Lock()
answers = collections.Counter()
slowest = 0.0


def ask():
    connection = http.client.HTTPSConnection(place.hostname, place.port, timeout=LIMIT, context=context)
    try:
        connection.request("GET", place.path, headers={"Relay-Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        return "200" if answer.status == 200 else f"{answer.status} {body[:200]!r}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def caller():
    global slowest
    while not os.path.exists(stop):
        began = time.monotonic()
        outcome = ask()
        took = time.monotonic() - began
        with lock:
            answers[outcome] += 1
            slowest = max(slowest, took)
        # What fails at once must not be asked ten thousand times.
        time.sleep(0.005 if outcome == "200" else 0.2)


threads = [threading.Thread(target=caller) for _ in range(CALLERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
answered = answers.pop("200", 0)
print(f"{answered} answered, slowest {slowest:.2f} s")
for outcome, count in answers.most_common():
    print(f"{count} times {outcome}")
sys.exit(1 if not answered or any(not allowed or allowed[0] not in outcome for outcome in answers) else 0)
