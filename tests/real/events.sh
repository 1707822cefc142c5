#!/bin/bash
# Server-sent events, read with the public client `sseclient-py`: the server sends an event only after the reader has
# acknowledged the one before, by another call. Whatever held an event back on the way would stop the stream for good.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

EVENTS=200

need openssl openssl
need curl curl
python_environment requests sseclient-py

port=$(free_port)
start server python3 "$here/parts/events_server.py" "$port" $EVENTS
wait_until 20 listening "$port" || give_up "the server starts"
start_relay
upstream events stream "http://127.0.0.1:$port"
start_agent events
connect events

export REQUESTS_CA_BUNDLE=$authority RELAY_TOKEN=$token
check "$EVENTS events, each acknowledged before the next" \
    timeout $LIMIT "$python" "$here/parts/events_client.py" "$(url events stream)" $EVENTS
