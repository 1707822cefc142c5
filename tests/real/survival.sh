#!/bin/bash
# Callers at work while everything between and around them fails: the link is cut, forgotten and slow, programs are
# killed, stopped and restarted. Every request is counted with what its caller was told, beside what reached the
# private service: nothing may be lost or done twice, and a failure must be told as what it is.
#
# SURVIVAL_SECONDS     how long the load of each scenario runs; 12 unless set, 120 for docs/reliability.md
# SURVIVAL_SCENARIOS   the scenarios to run, by the names of their functions; all unless set
# SURVIVAL_TABLE       a file for the table; it is shown on standard output in any case
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

seconds=${SURVIVAL_SECONDS:-12}
scenarios=${SURVIVAL_SCENARIOS:-cut silence forgotten slow agent_killed relay_killed stopped proxy_restarted dreadful replaced}

[ "$(id -u)" = 0 ] || skip_all "only root can make network namespaces"
need openssl openssl
need curl curl
need ip iproute2
need ss iproute2
need nft nftables
need ethtool ethtool
need squid squid
python_environment aiohttp

# Namespaces: PREFIX-priv, PREFIX-fw, PREFIX-pub (10.77.2.2). Two paths lead from priv to fw: priv0 -- in0, and
# priv1 -- PREFIX-wire -- in1, which is as slow as the wire's program makes it. Both have the private address 10.77.1.2,
# so that connections go on when the path changes.
prefix=sv$$
private=(ip netns exec "$prefix-priv")
public=(ip netns exec "$prefix-pub")
firewall=(ip netns exec "$prefix-fw")
relay_address=10.77.2.2
private_address=10.77.1.2

undo() {
    local side
    for side in priv wire fw pub; do ip netns del "$prefix-$side" 2>/dev/null; done
}

# ---- the networks

make_networks() {
    local side interface
    for side in priv wire fw pub; do
        ip netns add "$prefix-$side" && ip -n "$prefix-$side" link set lo up || return 1
    done
    ip link add priv0 netns "$prefix-priv" type veth peer name in0 netns "$prefix-fw" &&
        ip link add priv1 netns "$prefix-priv" type veth peer name near netns "$prefix-wire" &&
        ip link add far netns "$prefix-wire" type veth peer name in1 netns "$prefix-fw" &&
        ip link add out0 netns "$prefix-fw" type veth peer name pub0 netns "$prefix-pub" || return 1
    for interface in "priv priv0" "priv priv1" "wire near" "wire far" "fw in0" "fw in1" "fw out0" "pub pub0"; do
        set -- $interface
        ip -n "$prefix-$1" link set "$2" up || return 1
        # Whole packets of the wire's own size: what a wire loses is one packet.
        ip netns exec "$prefix-$1" ethtool -K "$2" tx off tso off gso off gro off || return 1
    done
    ip -n "$prefix-priv" addr add $private_address/24 dev priv0 &&
        ip -n "$prefix-fw" addr add 10.77.1.1/24 dev in0 &&
        ip -n "$prefix-priv" addr add 10.77.3.2/24 dev priv1 &&
        ip -n "$prefix-fw" addr add 10.77.3.1/24 dev in1 &&
        ip -n "$prefix-fw" addr add 10.77.2.1/24 dev out0 &&
        ip -n "$prefix-pub" addr add $relay_address/24 dev pub0 &&
        ip -n "$prefix-pub" route add default via 10.77.2.1 &&
        "${firewall[@]}" sysctl -qw net.ipv4.ip_forward=1 &&
        "${firewall[@]}" nft add table inet faults &&
        "${firewall[@]}" nft add chain inet faults forward '{ type filter hook forward priority 0; }' &&
        take_good_path
}

take_good_path() {
    ip -n "$prefix-priv" route replace default via 10.77.1.1 dev priv0 src $private_address &&
        ip -n "$prefix-fw" route del $private_address/32 2>/dev/null
    [ -z "${wire_pid:-}" ] || stop "$wire_pid"
    wire_pid=
}

# take_slow_path DELAY_MS JITTER_MS LOSS_PERCENT: each way.
take_slow_path() {
    rm -f "$work/wire.log"
    start wire ip netns exec "$prefix-wire" "$python" "$here/parts/wire.py" near far "$@"
    wire_pid=$last_pid
    ip -n "$prefix-priv" route replace default via 10.77.3.1 dev priv1 src $private_address &&
        ip -n "$prefix-fw" route replace $private_address/32 via 10.77.3.2 dev in1
}

# firewall_rules [RULE...]: these, in place of any.
firewall_rules() {
    local rule
    {
        echo "flush chain inet faults forward"
        for rule in "$@"; do echo "add rule inet faults forward $rule"; done
    } | "${firewall[@]}" nft -f -
}

# Ports of the agent's own ends.
link_ports() { "${private[@]}" ss -Htn state established dst $relay_address | awk '{ sub(/.*:/, "", $3); print $3 }'; }

# ---- what happens meanwhile; each ends when the load does

# while_loaded: whether the load still runs; $spell seconds later.
while_loaded() {
    sleep "$spell"
    kill -0 "$load_pid" 2>/dev/null && [ $SECONDS -lt "$end" ]
}

# Both ends learn of one cut, only the one that sends next of the other.
cut_again_and_again() {
    spell=2
    while while_loaded; do
        "${private[@]}" ss -tK dst $relay_address >/dev/null
        while_loaded || break
        firewall_rules "meta l4proto tcp reject with tcp reset"
        sleep 0.2
        firewall_rules
    done
}

be_silent_now_and_then() {
    while spell=3 && while_loaded; do
        firewall_rules "drop"
        sleep 8
        firewall_rules
    done
}

# Like a firewall whose table was lost: what is connected carries nothing any more, what is new passes.
forget_now_and_then() {
    local port forgotten=()
    spell=2
    while while_loaded; do
        for port in $(link_ports); do forgotten+=("tcp sport $port drop" "tcp dport $port drop"); done
        firewall_rules "${forgotten[@]}"
        spell=15
    done
}

kill_the_agent_again_and_again() {
    spell=4
    while while_loaded; do
        kill_hard "$agent_pid"
        run_agent
    done
}

kill_the_relay_again_and_again() {
    spell=4
    while while_loaded; do
        kill_hard "$relay_pid"
        run_relay
    done
}

# Every other time for longer than a link that answers nothing is borne with.
stop_both_now_and_then() {
    local pid still=4
    while spell=3 && while_loaded; do
        for pid in "$agent_pid" "$relay_pid"; do
            kill -STOP "$pid"
            sleep $still
            kill -CONT "$pid"
            sleep 3
        done
        still=$((18 - still))
    done
}

restart_the_proxy_again_and_again() {
    spell=4
    while while_loaded; do
        kill_hard "$squid_pid"
        run_squid
    done
}

# Another process takes the listener over before the former one ends. Less often than links take to move, 5 s.
replace_the_relay_again_and_again() {
    local former number=0
    while spell=8 && while_loaded; do
        former=$relay_pid
        number=$((number + 1))
        # Each has an admin socket of its own.
        sed "s/relay\.sock/relay-$number.sock/" "$work/relay.toml" >"$work/relay-$number.toml"
        run_relay "relay-$number"
        wait_until 20 both_listen
        kill -TERM "$former"
    done
}

both_listen() { [ "$("${public[@]}" ss -Hltn "sport = :$relay_port" | wc -l)" -ge 2 ]; }

nothing_else() { :; }

kill_hard() {
    kill -KILL "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

# ---- the programs, started where they left off

# run_relay [NAME]: with the configuration of this name.
run_relay() {
    start relay "${relay_in[@]}" "$RELAY_BINARY" serve --config "$work/${1:-relay}.toml"
    relay_pid=$last_pid
}

run_agent() {
    start "$agent_name" "${agent_in[@]}" "$AGENT_BINARY" run --config "$work/$agent_name.toml"
    agent_pid=$last_pid
}

run_squid() {
    rm -f "$work/squid/squid.pid"
    start squid "${firewall[@]}" squid -N -f "$work/squid.conf"
    squid_pid=$last_pid
}

configure_squid() {
    mkdir "$work/squid"
    chown proxy: "$work/squid"
    cat >"$work/squid.conf" <<SQUID
http_port 10.77.1.1:3128
visible_hostname proxy.test
http_access allow all
access_log none
cache_log $work/squid/cache.log
pid_filename $work/squid/squid.pid
coredump_dir $work/squid
cache deny all
shutdown_lifetime 0 seconds
SQUID
}

# How many links the agent made since its start, and how often it resumed one.
link_counts() {
    agent "$agent_name" status --json | "$python" -c '
import json, sys
link = json.load(sys.stdin)["connections"][0]["link"]
print(link["links_made"], link["resumed"])'
}

# ---- scenarios

table=$work/table
columns="| scenario | requests | answered | 503 not sent | 502 unknown | broken off | wrong answer | lost | done twice | MB down / up | slowest answer |"
echo "$columns" >"$table"
echo "$columns" | sed 's/[^|]\{1,\}/---/g' >>"$table"

# scenario NAME MEANWHILE [LOAD OPTION...]: the load, and what happens meanwhile.
scenario() {
    local name=$1 meanwhile=$2 made resumed status now_made now_resumed
    shift 2
    new_links=unknown new_websockets=unknown
    wait_until 60 linked "$agent_name" || { not_ok "$name: the link is up before it"; return; }
    read -r made resumed < <(link_counts)
    end=$((SECONDS + seconds))
    RELAY_TOKEN=$token "${public[@]}" "$python" "$here/parts/mixed_load.py" "$(url "$agent_name" ledger)" "$authority" \
        "$work/ledger.sock" "$name" "$seconds" "$@" >"$work/row" 2>"$work/load.log" </dev/null &
    load_pid=$!
    "$meanwhile"
    wait "$load_pid"
    status=$?
    firewall_rules
    cat "$work/row" | tee -a "$table"
    wait_until 60 linked "$agent_name" || { not_ok "$name: the link is up after it"; return; }
    read -r now_made now_resumed < <(link_counts)
    new_links=$((now_made - made))
    new_websockets=$((now_resumed - resumed))
    # An agent that was started anew counts anew.
    [ "$meanwhile" = kill_the_agent_again_and_again ] || echo "    new links: $new_links, resumed: $new_websockets times"
    if [ $status = 0 ]; then ok "$name"; else
        not_ok "$name"
        sed 's/^/    /' "$work/load.log" >&2
    fi
}

cut() { scenario "the link is cut every 2 s" cut_again_and_again; }
silence() { scenario "all packets are dropped for 8 s at a time" be_silent_now_and_then; }
forgotten() { scenario "the firewall forgets the link every 15 s" forget_now_and_then; }
agent_killed() { scenario "the agent is killed every 4 s" kill_the_agent_again_and_again --may-fail; }
relay_killed() { scenario "the relay is killed every 4 s" kill_the_relay_again_and_again --may-fail; }
stopped() { scenario "agent and relay stand still for 4 s and 14 s" stop_both_now_and_then; }

replaced() {
    stop "$relay_pid"
    # Long bodies are to end on the process that they began on.
    sed -i '1i reuse_port = true\ndrain_timeout = "10m"' "$work/relay.toml"
    run_relay
    scenario "the relay is replaced by another every 8 s" replace_the_relay_again_and_again --may-fail
}

# A path that has just become slow is a matter of its own: the link knows of it from its first round trip on.
begin_anew() { "${private[@]}" ss -tK dst $relay_address >/dev/null; }

no_false_alarm() { [ "$new_links $new_websockets" = "0 0" ]; }
# judge_alarms NAME: nothing can be said of it where the wire stood still meanwhile, as it does when the machine has no time for it.
judge_alarms() {
    if no_false_alarm || ! grep -q 'stood still' "$work/wire.log"; then
        check "$1" no_false_alarm
    else
        skip "$1" "the wire $(grep 'stood still' "$work/wire.log" | tail -n 1)"
    fi
}

slow() {
    take_slow_path 100 25 1
    begin_anew
    scenario "round trip 200 ms ± 50 ms and 2 % loss" nothing_else --calls 5 --rate 20000
    judge_alarms "no false alarm with 2 % loss"
    take_good_path
}

dreadful() {
    take_slow_path 1000 0 10
    begin_anew
    scenario "round trip 2 s and 20 % loss" nothing_else --calls 0.5 --rate 500
    judge_alarms "no false alarm with 20 % loss"
    take_good_path
}

proxy_restarted() {
    configure_squid
    run_squid
    wait_until 30 "${private[@]}" bash -c "exec 3<>/dev/tcp/10.77.1.1/3128" || give_up "squid starts"
    agent_network='proxy = "http://10.77.1.1:3128"'
    begin_agent proxied
    scenario "the proxy is killed every 4 s" restart_the_proxy_again_and_again
    stop "$agent_pid"
    agent_name=direct agent_pid=$direct_pid
}

# begin_agent NAME: one with a connection of its own.
begin_agent() {
    agent_name=$1
    upstream "$1" ledger "http://127.0.0.1:$upstream_port"
    start_agent "$1"
    connect "$1"
}

make_networks >"$work/networks.log" 2>&1 || skip_all "network namespaces cannot be made here: $(tail -1 "$work/networks.log")"
upstream_port=8081
start ledger "${private[@]}" "$python" "$here/parts/ledger_server.py" $upstream_port "$work/ledger.sock"
wait_until 20 listening $upstream_port "${private[@]}" || give_up "the private service starts"
relay_in=("${public[@]}")
agent_in=("${private[@]}")
max_in_flight=1000
start_relay
begin_agent direct
direct_pid=$agent_pid
for one in $scenarios; do "$one"; done
echo
cat "$table"
[ -z "${SURVIVAL_TABLE:-}" ] || cp "$table" "$SURVIVAL_TABLE"
