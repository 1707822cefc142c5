#!/bin/bash
# 1,000 small calls at once: first against a server that answers none of them before all have arrived, so that they
# must truly be under way together; then as load, by HTTP/1.1 and HTTP/2, with every answer checked.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

CALLERS=1000

need openssl openssl
need curl curl
need python3 python3-minimal
need nginx nginx-light
need h2load nghttp2-client
need wrk wrk

barrier_port=$(free_port)
start barrier python3 "$here/parts/barrier_server.py" "$barrier_port" $CALLERS
wait_until 20 listening "$barrier_port" || give_up "the barrier starts"

web_port=$(free_port)
mkdir "$work/web"
user=
[ "$(id -u)" != 0 ] || user="user root;"
cat >"$work/nginx.conf" <<NGINX
daemon off; $user pid $work/nginx.pid; error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000;
  client_body_temp_path $work/web/body; fastcgi_temp_path $work/web/fastcgi; proxy_temp_path $work/web/proxy;
  uwsgi_temp_path $work/web/uwsgi; scgi_temp_path $work/web/scgi;
  server { listen 127.0.0.1:$web_port backlog=4096; location = /small { return 200 "the right body"; } }
}
NGINX
start nginx nginx -e stderr -p "$work" -c "$work/nginx.conf"
wait_until 20 listening "$web_port" || give_up "nginx starts"

start_relay
max_in_flight=2000
upstream many barrier "http://127.0.0.1:$barrier_port"
upstream many web "http://127.0.0.1:$web_port"
start_agent many
connect many

# h2load verifies no certificates.
all_at_once() {
    timeout $LIMIT h2load -n $CALLERS "$@" -H "relay-authorization: Bearer $token" "$(url many barrier)/" >"$work/h2load.txt"
    cat "$work/h2load.txt"
    grep -q "$CALLERS succeeded, 0 failed, 0 errored, 0 timeout" "$work/h2load.txt" &&
        grep -q "status codes: $CALLERS 2xx" "$work/h2load.txt" &&
        grep -q "headers .*(8000) data" "$work/h2load.txt"
}

cat >"$work/check.lua" <<'LUA'
-- Counts answers that are not exactly the right one; wrk itself looks at no body.
local threads = {}
wrong, right = 0, 0
function setup(thread) table.insert(threads, thread) end
function response(status, headers, body)
  if status == 200 and body == "the right body" then right = right + 1 else wrong = wrong + 1 end
end
function done(summary, latency, requests)
  local rights, wrongs, e = 0, 0, summary.errors
  for _, thread in ipairs(threads) do
    rights = rights + thread:get("right")
    wrongs = wrongs + thread:get("wrong")
  end
  print("right " .. rights .. " wrong " .. wrongs .. " errors " .. (e.connect + e.read + e.write + e.status + e.timeout))
end
LUA

load_by_http1() {
    timeout $LIMIT wrk -t2 -c$CALLERS -d10s --timeout 60s -s "$work/check.lua" -H "Relay-Authorization: Bearer $token" \
        "$(url many web)/small" >"$work/wrk.txt"
    cat "$work/wrk.txt"
    # Most of the time may go into the handshakes.
    grep -Eq "^right [1-9][0-9]{2,} wrong 0 errors 0$" "$work/wrk.txt"
}

load_by_http2() {
    timeout $LIMIT h2load -n 20000 -c 10 -m $((CALLERS / 10)) -H "relay-authorization: Bearer $token" "$(url many web)/small" >"$work/h2load.txt"
    cat "$work/h2load.txt"
    grep -q "Application protocol: h2" "$work/h2load.txt" &&
        grep -q "20000 succeeded, 0 failed, 0 errored, 0 timeout" "$work/h2load.txt" &&
        grep -q "status codes: 20000 2xx" "$work/h2load.txt"
}

check "$CALLERS calls under way together, each on a connection of its own" all_at_once --h1 -c $CALLERS
check "$CALLERS calls under way together, on 10 connections by HTTP/2" all_at_once -c 10 -m $((CALLERS / 10))
check "$CALLERS callers by HTTP/1.1, every body right" load_by_http1
check "$CALLERS callers by HTTP/2, every status 200" load_by_http2
