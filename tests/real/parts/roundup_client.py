"""Works with a Roundup tracker as an integration does, through the relay. Prints one line per check.

usage: roundup_client.py URL-OF-REST-DATA ORIGIN-OF-THE-TRACKER    (RELAY_TOKEN in the environment)
"""

import os
import sys

import requests

base, origin = sys.argv[1:]
failed = False


def check(name, condition, shown=""):
    global failed
    print(("ok" if condition else "not ok") + f" roundup: {name}", flush=True)
    if not condition:
        failed = True
        print(f"{name}: {shown}", file=sys.stderr)


session = requests.Session()
session.headers["Relay-Authorization"] = f"Bearer {os.environ['RELAY_TOKEN']}"
# Roundup's defence against forged requests: both, and the origin must be the tracker's own.
session.headers["X-Requested-With"] = "rest"
session.headers["Origin"] = origin

title = "Ünïcode and “quotes” & <angles>"
answer = session.post(f"{base}/issue", data={"title": title})
check("an issue is created", answer.status_code == 201, answer.text)
issue = f"{base}/issue/{answer.json()['data']['id']}"

answer = session.get(issue)
tag = answer.headers.get("ETag")
check("it is read with its ETag", answer.status_code == 200 and bool(tag), dict(answer.headers))
check("its title came through unharmed", answer.json()["data"]["attributes"]["title"] == title, answer.text)

answer = session.put(issue, data={"title": "Changed"}, headers={"If-Match": tag})
check("it is updated with that ETag", answer.status_code == 200, answer.text)
answer = session.put(issue, data={"title": "Changed again"}, headers={"If-Match": tag})
check("an update with the old ETag is refused", answer.status_code == 412, answer.text)
answer = session.get(issue)
check("the first update stands", answer.json()["data"]["attributes"]["title"] == "Changed", answer.text)

for number in range(20):
    session.post(f"{base}/issue", data={"title": f"Issue {number}"}).raise_for_status()
answer = session.get(f"{base}/issue", params={"@fields": "title", "@page_size": "100"})
titles = [entry["title"] for entry in answer.json()["data"]["collection"]]
check("the list has all issues", titles == ["Changed"] + [f"Issue {n}" for n in range(20)], titles)

answer = session.get(f"{base}/issue/99999")
check("the tracker's own 404 comes through", answer.status_code == 404 and "error" in answer.json(), answer.text)
answer = session.options(f"{base}/issue")
check("OPTIONS tells what is allowed", "POST" in answer.headers.get("Allow", ""), dict(answer.headers))
sys.exit(failed)
