#!/bin/bash
# WebSockets through the relay, with the public Python package `websockets` at both ends: text, binary, a message of
# 1 MiB, compression, a subprotocol, pings, and close codes from either side.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

need openssl openssl
need curl curl
python_environment websockets

port=$(free_port)
start server "$python" "$here/parts/echo_server.py" "$port" "$work/closed-with"
wait_until 20 listening "$port" || give_up "the server starts"
start_relay
upstream websocket echo "http://127.0.0.1:$port"
start_agent websocket
connect websocket

export RELAY_TOKEN=$token
address=$(url websocket echo)
if ! timeout $((LIMIT * 3)) "$python" "$here/parts/echo_client.py" "wss${address#https}/echo" "$authority" "$work/closed-with" 2>"$work/client.log"; then
    failed=1
    sed 's/^/    /' "$work/client.log" >&2
fi
