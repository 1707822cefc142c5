#!/bin/bash
# 1 GiB down and 1 GiB up through the relay, each verified by SHA-256, while the memory of both programs stays bounded;
# the same while the link is cut every second; then a reader that is slower than the network, and one that goes away.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

BYTES=$((1 << 30))
# The most resident memory that relay or agent may ever have had. What may be in flight by design is a few MiB.
MEMORY_LIMIT_KIB=65536
# A GiB takes long on a machine that has little time for it.
LIMIT=900

need openssl openssl
need curl curl
need python3 python3-minimal

# Pseudo-random: no byte position looks like another, so a piece lost, doubled or moved changes the hash.
openssl enc -aes-256-ctr -K "$(printf '%064d' 1)" -iv "$(printf '%032d' 2)" -in /dev/zero 2>/dev/null |
    head -c $BYTES >"$work/data"
expected=$(sha256sum "$work/data" | cut -d ' ' -f 1)

port=$(free_port)
start server python3 "$here/parts/bulk_server.py" "$port" "$work/data"
wait_until 20 listening "$port" || give_up "the server starts"
start_relay
upstream bulk files "http://127.0.0.1:$port"
start_agent bulk
connect bulk
files=$(url bulk files)

downloaded() { [ "$(call "$files/data" | sha256sum | cut -d ' ' -f 1)" = "$expected" ]; }

# curl announces large uploads with Expect: 100-continue.
uploaded() {
    local answer
    answer=$(call -T "$work/data" "$files/upload")
    echo "$answer"
    [ "$answer" = "$BYTES $expected" ]
}

uploaded_in_chunks() {
    local answer
    answer=$(call -X POST -H "Transfer-Encoding: chunked" -T - "$files/upload" <"$work/data")
    echo "$answer"
    [ "$answer" = "$BYTES $expected" ]
}

# while_cut COMMAND...: cuts the agent's own connection to the relay every second meanwhile.
while_cut() {
    local before cutting status
    before=$(times_resumed)
    cut_every_second &
    cutting=$!
    "$@"
    status=$?
    kill $cutting
    echo "resumed: $(($(times_resumed) - before)) times"
    [ $status = 0 ] && [ "$(times_resumed)" -gt "$before" ]
}

cut_every_second() {
    local port
    while sleep 1; do
        for port in $(ss -Htnp state established "dport = :$relay_port" |
            awk -v agent="pid=$agent_pid," 'index($0, agent) { sub(/.*:/, "", $3); print $3 }'); do
            ss -tK "sport = :$port" >/dev/null
        done
    done
}

times_resumed() {
    agent bulk status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["connections"][0]["link"]["resumed"])'
}

# Reads 24 MiB at 8 MiB/s and goes away: the rest must wait at the server, not in our memory.
slow_reader_leaves() {
    # curl fails when nobody reads on; that is the point.
    call --limit-rate 8M "$files/data" 2>/dev/null | head -c $((24 << 20)) | wc -c | grep -qx $((24 << 20))
}

nothing_open() { [ "$(curl -s "http://127.0.0.1:$port/open")" = 0 ]; }

within_limit() {
    local peak
    peak=$(memory_peak "$1")
    echo "peak of resident memory: $peak KiB"
    [ "$peak" -le $MEMORY_LIMIT_KIB ]
}

check "1 GiB down, same hash" downloaded
check "1 GiB up, same hash" uploaded
check "1 GiB up in chunks, same hash" uploaded_in_chunks
if [ "$(id -u)" = 0 ] && command -v ss >/dev/null; then
    check "1 GiB down while the link is cut every second, same hash" while_cut downloaded
    check "1 GiB up while the link is cut every second, same hash" while_cut uploaded
else
    skip "1 GiB while the link is cut" "only root can cut connections, with ss"
fi
check "a slow reader gets what it reads" slow_reader_leaves
check "the server's download ends when its reader has gone" wait_until 5 nothing_open
check "the agent's memory stayed under $MEMORY_LIMIT_KIB KiB" within_limit "$agent_pid"
check "the relay's memory stayed under $MEMORY_LIMIT_KIB KiB" within_limit "$relay_pid"
