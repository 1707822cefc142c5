#!/bin/bash
# The Roundup issue tracker through its REST API, called with the public `requests` library: create, read with its
# ETag, update, refuse a stale update, list. The agent adds the tracker's password; the caller never has it.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

need openssl openssl
need curl curl
python_environment roundup==2.6.0 requests

# Roundup refuses to run as root.
unprivileged=()
if [ "$(id -u)" = 0 ]; then
    need setpriv util-linux
    unprivileged=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    install -d -o 65534 -g 65534 "$work/tracker"
else
    mkdir "$work/tracker"
fi

port=$(free_port)
start roundup env HOME="$work/tracker" "${unprivileged[@]}" "$(dirname "$python")/roundup-demo" \
    -b sqlite -t classic -p "$port" "$work/tracker/demo"
wait_until 60 curl -fs "http://localhost:$port/demo/" || give_up "Roundup starts"

(umask 077 && printf 'Basic %s' "$(printf 'admin:admin' | base64)" >"$work/tracker-password")
start_relay
# Roundup refuses requests whose Host is not its own: the agent must send the upstream's.
upstream roundup tracker "http://localhost:$port" "set_headers = { Authorization = { file = \"$work/tracker-password\" } }"
start_agent roundup
connect roundup

export REQUESTS_CA_BUNDLE=$authority RELAY_TOKEN=$token
if ! timeout $LIMIT "$python" "$here/parts/roundup_client.py" "$(url roundup tracker)/demo/rest/data" "http://localhost:$port" \
    2>"$work/client.log"; then
    failed=1
    sed 's/^/    /' "$work/client.log" >&2
fi
