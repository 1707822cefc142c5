"""Asks for many paths through a relay, and compares how others read those that are allowed.

    path_readers.py URL-OF-THE-UPSTREAM CERTIFICATE-AUTHORITY CORPUS

The upstream answers with the target as it came and with the path as it reads it. The agent's reading is plain: what
passes is its segments, each decoded once; nothing is merged, cut off or resolved. Prints `ok` and `not ok` lines.
"""

import http.client
import os
import random
import re
import ssl
import sys
import urllib.parse

import httpx
import requests
import yarl

MADE_UP = 4000
SEED = 20261123
# What paths are made of: what parsers are known to disagree about, between plain letters.
PIECES = [
    "a", "b", "admin", "A-1", "/", "/", "/", ".", "..", "...", "//", "%2e", "%2E%2e", "%2f", "%5c", "\\", ";", ";x=1",
    "%3b", "%00", "%0a", "%20", "%25", "%252e", "%252f", "%41", "%c3%bc", "%c0%ae", "%ff", "%", "%zz", "%3f", "%23",
    "%u002e", "~", "@", ":", "http:", "&", "=", "+", "*", "'", "!", "$", ",", "(", ")", "|", "^", "`", "{", "}", "[",
    "]", '"', "<", ">", "%7b", "%e2%88%95", "%ef%bc%8f", "?", "?x=/../y", "?#",
]

base = urllib.parse.urlsplit(sys.argv[1])
trust = ssl.create_default_context(cafile=sys.argv[2])
headers = {"Relay-Authorization": "Bearer " + os.environ["RELAY_TOKEN"]}
failed = False


def corpus():
    """The paths of the request lines in the corpus."""
    with open(sys.argv[3], encoding="utf-8") as file:
        for line in file:
            found = re.match(r"""\s*(["'])(?:GET|POST) (/.*)\1,""", line)
            if found:
                yield found[2].replace("\\\\", "\\") if found[1] == '"' else found[2]


def made_up():
    chance = random.Random(SEED)
    for _ in range(MADE_UP):
        yield "/" + "".join(chance.choices(PIECES, k=chance.randint(1, 8)))


class Verbatim(http.client.HTTPSConnection):
    """Sends a target as it is."""

    def _validate_path(self, url):
        pass


def ask(connection, target):
    connection.putrequest("GET", base.path + target, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    if answer.will_close:
        connection.close()
    return answer, body


def readings(target):
    """Each parser's name, and the path as it reads it, decoded once."""
    url = "http://upstream.example" + target
    yield "urllib", urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    prepared = requests.Request("GET", url).prepare().url
    yield "requests", urllib.parse.unquote(urllib.parse.urlsplit(prepared).path)
    # As it does with what a server gets.
    yield "yarl", urllib.parse.unquote(yarl.URL(url, encoded=True).raw_path)
    yield "yarl, normalised", urllib.parse.unquote(yarl.URL(url).raw_path)
    yield "httpx", urllib.parse.unquote(httpx.URL(url).raw_path.decode().partition("?")[0])


def verdict(name, wrong, count):
    global failed
    if wrong:
        failed = True
        print(f"not ok paths: {name}")
        for line in wrong[:10]:
            print("    " + line, file=sys.stderr)
    else:
        print(f"ok paths: {name} ({count} allowed paths)")


connection = Verbatim(base.hostname, base.port, context=trust, timeout=120)
disagreements = {}
changed = []
allowed = refused = 0
for target in dict.fromkeys([*corpus(), *made_up()]):
    answer, body = ask(connection, target)
    if answer.getheader("Proxy-Status", "").startswith(("relay", "agent")):
        refused += 1
        continue
    allowed += 1
    if answer.status != 200:
        disagreements.setdefault("nginx", []).append(f"{target!r}: nginx says {answer.status}")
        continue
    # What follows "?" is the query; a path of the upstream itself begins with "/".
    expected = urllib.parse.unquote(target.partition("?")[0])
    came, _, read = body.decode("utf-8", "replace").partition("\n")
    if came != target:
        changed.append(f"{target!r} arrived as {came!r}")
    for name, path in [("nginx", read), *readings(target)]:
        if path != expected:
            disagreements.setdefault(name, []).append(f"{target!r}: {path!r}, not {expected!r}")

verdict("what arrives is what was sent", changed, allowed)
for name in ["nginx", "urllib", "requests", "yarl", "yarl, normalised", "httpx"]:
    verdict(f"{name} reads what is allowed as the agent does", disagreements.get(name), allowed)
verdict("the made-up paths are of both kinds", [] if allowed > 500 and refused > 500 else [f"{allowed} {refused}"], allowed)
sys.exit(failed)
