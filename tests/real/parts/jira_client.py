"""Works with a (mocked) Jira Cloud through the relay, by the public `jira` client. Prints one line per check.

usage: jira_client.py URL AUTHORITY-FILE       (RELAY_TOKEN in the environment)
"""

import os
import sys

import jira

url, authority = sys.argv[1:]
failed = False


def check(name, question):
    global failed
    try:
        answer = question()
    except Exception as error:  # whatever goes wrong is this check's result
        answer, shown = False, repr(error)
    else:
        shown = repr(answer)
    print(("ok" if answer else "not ok") + f" jira: {name}", flush=True)
    if not answer:
        failed = True
        print(f"{name}: {shown}", file=sys.stderr)


client = jira.JIRA(
    server=url,
    options={
        "rest_api_version": "3",
        "verify": authority,
        "headers": {**jira.JIRA.DEFAULT_OPTIONS["headers"], "Relay-Authorization": f"Bearer {os.environ['RELAY_TOKEN']}"},
    },
    get_server_info=False,
    max_retries=0,
)
check("server information", lambda: client.server_info()["version"] is not None)
check("who am I", lambda: client.myself()["emailAddress"])
fields = {"project": {"id": "10000"}, "summary": "Made through the relay", "issuetype": {"id": "10000"}}
check("an issue is created", lambda: client.create_issue(fields=fields, prefetch=False).key)
issue = None


def read():
    global issue
    issue = client.issue("ED-1")
    return issue.key and issue.fields.project.key


check("an issue is read", read)
check("its update is accepted", lambda: issue.update(fields={"summary": "Changed"}, notify=False) is None)
check("projects are listed", lambda: len(client.projects()) > 0)
check("its links are listed", lambda: len(client.remote_links("ED-1")) > 0)
sys.exit(failed)
