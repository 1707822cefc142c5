#!/bin/bash
# The agent and its upstream in a private network, the relay in a public one, and between them a firewall that lets
# out TCP to the relay's port only, and nothing in. Calls must pass, and no connection may even be tried from outside.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

[ "$(id -u)" = 0 ] || skip_all "only root can make network namespaces"
need openssl openssl
need curl curl
need python3 python3-minimal
need ip iproute2
need nft nftables
need tcpdump tcpdump

# Namespaces: PREFIX-priv (10.77.1.2) -- PREFIX-fw -- PREFIX-pub (10.77.2.2).
prefix=fw$$
private=(ip netns exec "$prefix-priv")
public=(ip netns exec "$prefix-pub")

undo() {
    local side
    for side in priv fw pub; do ip netns del "$prefix-$side" 2>/dev/null; done
}

make_networks() {
    local side
    for side in priv fw pub; do
        ip netns add "$prefix-$side" && ip -n "$prefix-$side" link set lo up || return 1
    done
    ip link add priv0 netns "$prefix-priv" type veth peer name in0 netns "$prefix-fw" &&
        ip link add out0 netns "$prefix-fw" type veth peer name pub0 netns "$prefix-pub" &&
        ip -n "$prefix-priv" addr add 10.77.1.2/24 dev priv0 &&
        ip -n "$prefix-fw" addr add 10.77.1.1/24 dev in0 &&
        ip -n "$prefix-fw" addr add 10.77.2.1/24 dev out0 &&
        ip -n "$prefix-pub" addr add 10.77.2.2/24 dev pub0 &&
        ip -n "$prefix-priv" link set priv0 up &&
        ip -n "$prefix-fw" link set in0 up &&
        ip -n "$prefix-fw" link set out0 up &&
        ip -n "$prefix-pub" link set pub0 up &&
        ip -n "$prefix-priv" route add default via 10.77.1.1 &&
        ip -n "$prefix-pub" route add default via 10.77.2.1 &&
        ip netns exec "$prefix-fw" sysctl -qw net.ipv4.ip_forward=1
}

# lock PORT: from now on, only connections from inside to this port pass.
lock() {
    ip netns exec "$prefix-fw" nft -f - <<NFT
table inet firewall {
  counter inbound {}
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "in0" oifname "out0" tcp dport $1 ct state new accept
    iifname "out0" tcp flags & (syn|ack) == syn counter name inbound drop
    reject
  }
}
NFT
}

inbound_attempts() { ip netns exec "$prefix-fw" nft list counter inet firewall inbound | awk '/packets/ {print $2}'; }

make_networks >"$work/networks.log" 2>&1 || skip_all "network namespaces cannot be made here: $(tail -1 "$work/networks.log")"

upstream_port=8081
mkdir "$work/web"
echo "the right body" >"$work/web/small"
# On every address of the private machine: only the firewall keeps the outside away from it.
start web "${private[@]}" python3 -m http.server --bind 0.0.0.0 --directory "$work/web" $upstream_port
wait_until 20 listening $upstream_port "${private[@]}" || give_up "the upstream starts"

relay_address=10.77.2.2
relay_in=("${public[@]}")
agent_in=("${private[@]}")
start_relay
lock "$relay_port" || give_up "the firewall's rules"
start tcpdump "${private[@]}" tcpdump -n -Z root --immediate-mode -U -i priv0 -w "$work/private.pcap" tcp
wait_until 20 test -s "$work/private.pcap" || give_up "tcpdump starts"

upstream firewall web "http://127.0.0.1:$upstream_port"
start_agent firewall
connect firewall

calls_pass() {
    for _ in $(seq 20); do
        [ "$(call "$(url firewall web)/small")" = "the right body" ] || return 1
    done
}
captured() { tcpdump -n -r "$work/private.pcap" "$1" 2>/dev/null; }
only_begun_inside() {
    captured 'tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn' >"$work/begun.txt"
    cat "$work/begun.txt"
    # Something was begun, and all of it by the private machine towards the relay's port.
    [ -s "$work/begun.txt" ] && ! grep -qv "IP 10.77.1.2.[0-9]* > 10.77.2.2.$relay_port:" "$work/begun.txt"
}

check "calls pass the firewall" calls_pass
check "the private network's own interface saw only connections begun inside, to the relay's port" only_begun_inside
check "no connection was tried from outside" test "$(inbound_attempts)" = 0

# The proof that the counter counts, and that the firewall is shut.
straight_in() { "${public[@]}" curl -s -m 2 "http://10.77.1.2:$upstream_port/small"; }
blocked() { ! straight_in && [ "$(inbound_attempts)" -gt 0 ]; }
check "the upstream itself cannot be reached from outside" blocked
check "calls still pass" calls_pass
