#!/bin/bash
# Out through the proxies that companies have: squid and tinyproxy, with a name and a password, set in the file or in
# the environment; NO_PROXY; and what the agent says when the proxy refuses, or the relay's authority is unknown.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

need openssl openssl
need curl curl
need python3 python3-minimal
need squid squid
need tinyproxy tinyproxy

port=$(free_port)
mkdir "$work/web"
echo "the right body" >"$work/web/small"
start web python3 -m http.server --bind 127.0.0.1 --directory "$work/web" "$port"
wait_until 20 listening "$port" || give_up "the upstream starts"

start_squid() {
    squid_port=$(free_port)
    mkdir "$work/squid"
    [ "$(id -u)" != 0 ] || chown proxy: "$work/squid"
    printf 'agent:%s\n' "$(openssl passwd -apr1 'p@ss word')" >"$work/squid-passwords"
    chmod 644 "$work/squid-passwords"
    cat >"$work/squid.conf" <<SQUID
http_port 127.0.0.1:$squid_port
visible_hostname proxy.test
auth_param basic program /usr/lib/squid/basic_ncsa_auth $work/squid-passwords
auth_param basic realm A company
acl known proxy_auth REQUIRED
acl CONNECT method CONNECT
http_access allow CONNECT known
http_access deny all
access_log stdio:$work/squid/access.log
cache_log $work/squid/cache.log
pid_filename $work/squid/squid.pid
coredump_dir $work/squid
cache deny all
shutdown_lifetime 0 seconds
SQUID
    start squid squid -N -f "$work/squid.conf"
    wait_until 30 listening "$squid_port" || give_up "squid starts"
}

start_tinyproxy() {
    tinyproxy_port=$(free_port)
    cat >"$work/tinyproxy.conf" <<TINYPROXY
Port $tinyproxy_port
Listen 127.0.0.1
BasicAuth agent secret
ConnectPort $relay_port
LogLevel Connect
TINYPROXY
    start tinyproxy tinyproxy -d -c "$work/tinyproxy.conf"
    wait_until 20 listening "$tinyproxy_port" || give_up "tinyproxy starts"
}

calls_pass() { [ "$(call "$(url "$1" web)/small")" = "the right body" ]; }

# An agent and a connection of this name, linked, with what $agent_network and $agent_environment say.
linked_agent() {
    upstream "$1" web "http://127.0.0.1:$port"
    start_agent "$1"
    connect "$1"
}

# refused NAME WORD: an agent that is configured so cannot accept, says this word, and ends with 69: unavailable.
refused() {
    local name=$1 word=$2 code status
    code=$(relay initiate --local public --remote private --name "$name" 2>>"$work/commands.log") || return 1
    agent "$name" accept --yes - <<<"$code" >"$work/refusal.txt" 2>&1
    status=$?
    cat "$work/refusal.txt"
    echo "status $status"
    [ $status -eq 69 ] && grep -q -- "$word" "$work/refusal.txt"
}

start_squid
start_relay
start_tinyproxy

agent_network="proxy = \"http://agent:p%40ss%20word@127.0.0.1:$squid_port\""
linked_agent by-squid
check "squid, name and password in the file" calls_pass by-squid
squid_saw_it() { grep "CONNECT 127.0.0.1:$relay_port agent" "$work/squid/access.log"; }
# squid logs a tunnel when it ends: accepting was one of its own.
check "squid carried it" wait_until 5 squid_saw_it

agent_network='proxy = "env"'
agent_environment=("HTTPS_PROXY=http://agent:secret@127.0.0.1:$tinyproxy_port" NO_PROXY=)
linked_agent by-tinyproxy
check "tinyproxy, from HTTPS_PROXY" calls_pass by-tinyproxy
check "tinyproxy carried it" wait_until 5 grep -q "CONNECT 127.0.0.1:$relay_port" "$work/tinyproxy.log"

# Nothing listens at this proxy: only going around it can work.
agent_environment=("HTTPS_PROXY=http://127.0.0.1:1" "NO_PROXY=localhost,127.0.0.1")
linked_agent around
check "NO_PROXY goes around the proxy" calls_pass around

agent_environment=()
agent_network="proxy = \"http://agent:wrong@127.0.0.1:$squid_port\""
configure_agent wrong-password
check "a wrong password is told as the proxy's refusal" refused wrong-password 407

agent_network='proxy = "none"'
configure_agent unknown-authority
sed -i '/^ca_file/d' "$work/unknown-authority.toml"
check "an unknown authority is told with its remedy" refused unknown-authority ca_file
