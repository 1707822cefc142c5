#!/bin/bash
# The units in a real systemd: a relay and an agent, installed by hand on a clean Debian machine without a network. What
# they do at boot, on reload and restart, when they hang, when the disk is full or the clock jumps; and that the sandbox
# denies what it says.
#
# File systems are mounted in a namespace of this script's own, so nothing is left behind.
if [ "${IN_OWN_MOUNTS:-}" != yes ] && [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    exec unshare --mount --propagation private env IN_OWN_MOUNTS=yes "$0" "$@"
fi
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"
# shellcheck source=tests/real/parts/machine.sh
. "$here/parts/machine.sh"

# What the tests wait for instead of the half minute of the units, in seconds; many times what a busy machine needs.
WATCHDOG=8

need openssl openssl
need curl curl
need python3 python3-minimal
need_machine
token=
undo() { end_machine; }

build_programs
boot_machine
install_by_hand >"$work/install.log" 2>&1 || give_up "programs and units are installed"
configure_both || give_up "both are configured"
printf '\n[log]\nformat = "journald"\n' | on tee -a /etc/relay-agent/agent.toml >/dev/null
start_service() {
    start service nsenter -t "$machine" -n python3 "$here/parts/service_server.py" 8080
    wait_until 20 listening 8080 beside || give_up "the private service starts"
}
start_service

state() { on systemctl show -P "$2" "$1"; }
is_state() { [ "$(state "$1" "$2")" = "$3" ]; }
status_says() { state "$1" StatusText | grep -q "$2"; }
begins() { on systemctl reset-failed "$1" 2>/dev/null; on systemctl start "$1"; }
# The machine has no program of that name, but its shell does.
signalled() { on sh -c "kill -$1 $2"; }
logged() { on journalctl -q -u "$1" -g "$2" >/dev/null; }

# ---- starting

waits_for_a_connection() { begins relay-agent && is_state relay-agent ActiveState active && status_says relay-agent "agent accept"; }
check "the agent is ready without network and connection, and says what to do" waits_for_a_connection

refuses_mistakes() {
    local unit=$1 program=$2 file=/etc/relay-agent/$2.toml
    on cp $file /root/kept.toml
    printf '\n[nonsense]\nkey = 1\n' | on tee -a $file >/dev/null
    ! on systemctl restart "$unit"
    # Longer than the pause before another start: there must be none.
    sleep 3
    is_state "$unit" ActiveState failed && is_state "$unit" ExecMainStatus 78 && is_state "$unit" NRestarts 0
    local status=$?
    on cp /root/kept.toml $file && begins "$unit" && return $status
}
check "an agent with a mistake in its configuration is not started over and over" refuses_mistakes relay-agent agent
begins relay || give_up "the relay starts"
check "neither is a relay" refuses_mistakes relay relay

connected() { on systemctl enable relay-agent relay && connect_both main && wait_until 30 answered; }
check "an invitation is accepted, and calls pass" connected
check "the agent's status line says so" wait_until 10 status_says relay-agent "1 of 1 links online"
check "the relay's status line says so" wait_until 10 status_says relay "1 of 1 connections linked"

# Fields, not text: whoever looks for a connection finds its lines.
has_fields() {
    on journalctl -q -u relay-agent -o json | python3 -c '
import json, sys
lines = [json.loads(line) for line in sys.stdin]
ups = [line for line in lines if line["MESSAGE"] == "the link is up"]
assert ups and all(line["CONNECTION"] == "main" and line["PRIORITY"] == "6" for line in ups), (ups, lines[-3:])
assert ups[0]["SYSLOG_IDENTIFIER"] == "agent" and ups[0]["_SYSTEMD_UNIT"] == "relay-agent.service", ups
'
}
check "its lines in the journal have fields" has_fields

# ---- reload

reloads_agent() {
    local before
    before=$(main_pid relay-agent)
    printf '\n[[upstream]]\nname = "other"\nurl = "http://127.0.0.1:8080"\n[[upstream.allow]]\nmethods = ["GET"]\npath = "/hello"\n' |
        on tee /etc/relay-agent/agent.d/other.toml >/dev/null
    on systemctl reload relay-agent && [ "$(beside curl -sS --cacert "$work/authority.pem" -H "Relay-Authorization: Bearer $token" https://127.0.0.1:8443/c/main/other/hello)" = "the right body" ] &&
        [ "$(main_pid relay-agent)" = "$before" ]
}
refuses_reload() {
    echo 'nonsense = 1' | on tee /etc/relay-agent/agent.d/mistaken.toml >/dev/null
    ! on systemctl reload relay-agent && answered && is_state relay-agent ActiveState active
    local status=$?
    on rm /etc/relay-agent/agent.d/mistaken.toml /etc/relay-agent/agent.d/other.toml && on systemctl reload relay-agent && return $status
}
serial() { beside openssl s_client -connect 127.0.0.1:8443 </dev/null 2>/dev/null | openssl x509 -noout -serial; }
reloads_relay() {
    local before serial_before
    before=$(main_pid relay) serial_before=$(serial)
    cp "$work/authority.pem" "$work/authority.kept"
    openssl x509 -req -in "$work/relay.csr" -CA "$authority" -CAkey "$work/authority-key.pem" -CAcreateserial -days 2 \
        -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1") -out "$work/relay-cert.pem"
    on tee /etc/relay-agent/tls/cert.pem <"$work/relay-cert.pem" >/dev/null
    on systemctl reload relay && PATIENCE=1 wait_until 4 eval '[ "$(serial)" != "$serial_before" ]' && [ "$(main_pid relay)" = "$before" ] && answered
}
on mkdir -p /etc/relay-agent/agent.d
check "reload puts a new upstream of the agent into force" reloads_agent
check "reload with a mistake fails, and the agent goes on as it was" refuses_reload
check "reload puts a new certificate of the relay into force" reloads_relay

# ---- restart

restarts_whole() {
    local before long
    before=$(main_pid "$1")
    begins_long 4 || return 1
    under_load 1 on systemctl restart "$1" || return 1
    wait "$long" && grep -qx "the right body" "$work/long.txt" || { cat "$work/long.txt"; return 1; }
    [ "$(main_pid "$1")" != "$before" ] && is_state "$1" ActiveState active
}
# A call on a connection that was accepted just before is told that the relay stops; it is safe to repeat.
allowed_answer='"delivery":"not-sent"'
check "restart of the relay: a call under way finishes, new ones wait or are safe to repeat" restarts_whole relay
allowed_answer=
check "restart of the agent: a call under way finishes, and new ones wait for it" restarts_whole relay-agent
# Each command asks at the admin socket, which systemd keeps open. One that is about to stop may say so.
has_asked() { [ "$(grep -c asked "$work/asked")" -ge "$1" ]; }
commands_wait() {
    rm -f "$work/asked" "$work/restarted"
    while [ ! -e "$work/restarted" ]; do
        on "$1" status >/dev/null 2>>"$work/asked"
        echo asked >>"$work/asked"
    done &
    local asking=$!
    wait_until 20 has_asked 1
    on systemctl restart "$2"
    local status=$?
    wait_until 20 has_asked 3
    touch "$work/restarted"
    wait $asking
    sort "$work/asked" | uniq -c
    [ $status = 0 ] && [ "$(grep -c asked "$work/asked")" -ge 3 ] && ! grep -vE '^asked$|is stopping' "$work/asked"
}
check "commands that ask meanwhile wait for the agent" commands_wait agent relay-agent
check "commands that ask meanwhile wait for the relay" commands_wait relay relay

killed() {
    local before
    before=$(main_pid "$1")
    signalled KILL "$before"
    wait_until 30 eval '[ "$(main_pid '"$1"')" != 0 ] && [ "$(main_pid '"$1"')" != '"$before"' ]' && wait_until 30 answered
}
check "a killed agent is back by itself" killed relay-agent
check "a killed relay is back by itself" killed relay

# ---- hanging

watched() {
    drop_in "$1" watchdog "WatchdogSec=$WATCHDOG" && on systemctl restart "$1" && wait_until 30 answered
}
# hangs UNIT COMMAND...: what the command does to the process is noticed, and the unit is back.
hangs() {
    local unit=$1 before restarts
    shift
    before=$(main_pid "$unit") restarts=$(state "$unit" NRestarts)
    "$@" "$before" || return 1
    wait_until $((WATCHDOG * 4 + 10)) eval "[ \"\$(state $unit NRestarts)\" -gt $restarts ] && [ \"\$(main_pid $unit)\" != 0 ]" || return 1
    on journalctl -q -u "$unit" -g 'watchdog' -n 1 | grep -i watchdog && wait_until 30 answered
}
stopped() { signalled STOP "$1"; }
# Its first thread only; the others, such as those that look names up, go on.
held() {
    asks hello >/dev/null
    start hold nsenter -t "$machine" -p python3 -u "$here/parts/hold_thread.py" "$1"
    wait_until 10 grep -q held "$work/hold.log"
}
goes_on_without_calls() {
    local before
    before=$(main_pid "$1")
    sleep $((WATCHDOG * 2))
    [ "$(main_pid "$1")" = "$before" ] && is_state "$1" NRestarts "$2"
}
for unit in relay-agent relay; do
    watched $unit || give_up "$unit starts with a short watchdog"
done
check "a stopped agent is noticed, and started again" hangs relay-agent stopped
check "so is one whose loop hangs" hangs relay-agent held
check "a stopped relay is noticed, and started again" hangs relay stopped
: >"$work/hold.log"
check "so is one whose loop hangs (relay)" hangs relay held
check "one that has nothing to do is left alone" goes_on_without_calls relay-agent "$(state relay-agent NRestarts)"
no_drop_in relay-agent watchdog
no_drop_in relay watchdog
on systemctl restart relay-agent relay

# ---- credentials

printf '\n[[upstream]]\nname = "with-token"\nurl = "http://127.0.0.1:8080"\nauth = { bearer = { credential = "jira-token" } }\n[[upstream.allow]]\nmethods = ["GET"]\npath = "/authorization"\n' \
    >"$work/with-token.toml"
sent_token() {
    [ "$(beside curl -sS --cacert "$work/authority.pem" -H "Relay-Authorization: Bearer $token" https://127.0.0.1:8443/c/main/with-token/authorization)" = "Bearer $1" ]
}
gets_credential() {
    printf 'first-token' | on sh -c 'umask 077; cat >/etc/relay-agent/jira-token'
    on tee /etc/relay-agent/agent.d/with-token.toml <"$work/with-token.toml" >/dev/null
    drop_in relay-agent credential LoadCredential=jira-token:/etc/relay-agent/jira-token &&
        on systemctl restart relay-agent && wait_until 30 sent_token first-token
}
rotates_credential() {
    printf 'second-token' | on tee /etc/relay-agent/jira-token >/dev/null
    on systemctl restart relay-agent && wait_until 30 sent_token second-token
}
keeps_credential() {
    local pid
    pid=$(main_pid relay-agent)
    ! on setpriv --reuid=relay --clear-groups cat /etc/relay-agent/jira-token 2>/dev/null &&
        ! on grep -aq 'second-token' "/proc/$pid/environ" "/proc/$pid/cmdline" &&
        ! on sh -c 'journalctl -q --no-pager | grep -q second-token'
}
check "a credential that only root can read reaches the service" gets_credential
check "a rotated one is used after a restart" rotates_credential
check "it is in no log, environment or argument" keeps_credential
on rm /etc/relay-agent/agent.d/with-token.toml
no_drop_in relay-agent credential

# ---- a full disk, a clock that jumps

refused() { [ "$(asks hello -m 3 -o /dev/null -w '%{http_code}' 2>/dev/null)" = 503 ]; }
fills() {
    on mkdir -p /var/log/relay-agent && on mount -t tmpfs -o size=4m,mode=700,uid="$(on id -u relay-agent)",gid="$(on id -g relay-agent)" none /var/log/relay-agent
    printf '\n[audit]\nfile = "/var/log/relay-agent/audit.jsonl"\n' | on tee /etc/relay-agent/agent.d/audit.toml >/dev/null
    on systemctl restart relay-agent && wait_until 30 answered && on grep -q '"kind":"call"' /var/log/relay-agent/audit.jsonl || return 1
    on sh -c 'dd if=/dev/zero of=/var/log/relay-agent/full bs=64k 2>/dev/null'
    wait_until 30 refused && is_state relay-agent ActiveState active
}
empties() {
    local before
    before=$(main_pid relay-agent)
    on rm /var/log/relay-agent/full && wait_until 30 answered && [ "$(main_pid relay-agent)" = "$before" ]
}
check "with a full disk the audited agent refuses calls, and stays" fills
check "with space again it goes on by itself" empties
on rm /etc/relay-agent/agent.d/audit.toml
on systemctl restart relay-agent && on umount /var/log/relay-agent

jumps() {
    local before by
    on sh -c 'echo +0 >/etc/shifted-clock'
    drop_in relay-agent clock "Environment=LD_PRELOAD=$1 FAKETIME_TIMESTAMP_FILE=/etc/shifted-clock FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1" &&
        on systemctl restart relay-agent && wait_until 30 answered || return 1
    before=$(main_pid relay-agent)
    for by in +3h -3h +0; do
        echo "$by" | on tee /etc/shifted-clock >/dev/null
        under_load 2 on agent status || return 1
    done
    [ "$(main_pid relay-agent)" = "$before" ] && is_state relay-agent ActiveState active
}
faketime=$(on find /usr/lib -name libfaketime.so.1 | head -n 1)
check "a clock that jumps by hours either way stops no call" jumps "$faketime"
no_drop_in relay-agent clock

# ---- addresses

elsewhere() {
    [ "$(beside curl -sS -o /dev/null -w '%{http_code}' --max-time 60 --cacert "$work/authority.pem" -H "Relay-Authorization: Bearer $token" \
        https://127.0.0.1:8443/c/main/elsewhere/hello)" = "$1" ]
}
# Of the machine's addresses, one is the relay's and the service's; another, of a second service, is then out of reach.
keeps_to_addresses() {
    start elsewhere nsenter -t "$machine" -n python3 "$here/parts/service_server.py" 8081 127.0.0.2
    printf '[[upstream]]\nname = "elsewhere"\nurl = "http://127.0.0.2:8081"\nconnect_timeout = "1s"\n[[upstream.allow]]\nmethods = ["GET"]\npath = "/{name}"\n' |
        on tee /etc/relay-agent/agent.d/elsewhere.toml >/dev/null
    on systemctl restart relay-agent && wait_until 30 elsewhere 200 || return 1
    drop_in relay-agent addresses IPAddressDeny=any IPAddressAllow=127.0.0.1 &&
        on systemctl restart relay-agent && wait_until 30 answered && elsewhere 504
    local status=$?
    on rm /etc/relay-agent/agent.d/elsewhere.toml
    no_drop_in relay-agent addresses && on systemctl restart relay-agent && return $status
}
check "with IPAddressAllow= it reaches those addresses and no other" keeps_to_addresses

# ---- boot

boots_alone() {
    on systemctl disable relay && reboot_machine && is_state relay-agent ActiveState active &&
        is_state relay ActiveState inactive && wait_until 10 status_says relay-agent "0 of 1 links online"
}
finds_its_relay() { start_service && begins relay && wait_until 60 answered; }
check "after a boot without network and relay the agent is up, and waits" boots_alone
check "when the relay is there, the link comes up" finds_its_relay

# ---- sockets

# Without the agent, which would be the first to connect.
takes_sockets() {
    on systemctl stop relay-agent relay && on sed -i 's/^ListenStream=0.0.0.0:443$/ListenStream=0.0.0.0:8443/' /etc/systemd/system/relay.socket &&
        on systemctl daemon-reload && on systemctl enable --now relay.socket && is_state relay ActiveState inactive &&
        on systemctl start relay-agent && wait_until 60 answered && is_state relay ActiveState active && on relay connections
}
wakes_agent() {
    on systemctl stop relay-agent && on systemctl start relay-agent.socket && is_state relay-agent ActiveState inactive &&
        on agent status && is_state relay-agent ActiveState active && wait_until 30 answered
}
refuses_wrong_socket() {
    on systemctl stop relay relay.socket && on sed -i 's/^ListenStream=0.0.0.0:8443$/ListenStream=0.0.0.0:8444/' /etc/systemd/system/relay.socket &&
        on systemctl daemon-reload && on systemctl start relay.socket && ! begins relay && is_state relay ExecMainStatus 78 && logged relay 0.0.0.0:8444
    local status=$?
    on systemctl stop relay.socket
    on sed -i 's/^ListenStream=0.0.0.0:8444$/ListenStream=0.0.0.0:8443/' /etc/systemd/system/relay.socket
    on systemctl daemon-reload && on systemctl start relay.socket && begins relay && wait_until 30 answered && return $status
}
check "whoever connects to relay.socket starts the relay" takes_sockets
allowed_answer='"delivery":"not-sent"'
check "restart of the relay with relay.socket: no connection is refused" restarts_whole relay
allowed_answer=
check "whoever asks at relay-agent.socket starts the agent" wakes_agent
check "a socket unit that the configuration does not agree with is told" refuses_wrong_socket

# ---- the sandbox

# probed UNIT PROGRAM USER STATE OTHERS-STATE: everything that the probe tries is denied in the unit's sandbox, but for what must work.
probed() {
    local unit=$1 program=$2 others=$3 said=$work/probe-$2.txt namespace
    shift 3
    on systemctl stop "$unit" "$unit.socket"
    drop_in "$unit" probe Type=oneshot ExecReload= ExecStart= "ExecStart=/usr/bin/perl /parts/denied.pl $others" \
        ExecPaths=/usr/bin/perl StandardOutput=file:/run/probe.txt NotifyAccess=none WatchdogSec=0 Restart=no &&
        on systemctl start "$unit"
    on cat /run/probe.txt >"$said"
    on rm -f /run/probe.txt
    no_drop_in "$unit" probe
    [ "$(grep -c ' denied' "$said")" -ge 63 ] && grep ' allowed' "$said" | sort >"$said.allowed"
    # Mounts and shared memory of its own, not those of the machine.
    for namespace in mnt ipc; do
        grep -q "^$namespace $namespace:" "$said" && ! grep -qx "$namespace $(on readlink /proc/1/ns/$namespace)" "$said" || { cat "$said"; return 1; }
    done
    printf '%s\n' "$@" | sort | diff - <(sed 's/ allowed.*//' "$said.allowed") && return
    cat "$said"
    return 1
}
# Without the sandbox root may do it, so the probe does see what is allowed.
sees() {
    local said=$work/probe-root.txt
    on perl /parts/denied.pl /var/lib/relay >"$said"
    [ "$(grep -c ' allowed' "$said")" -ge 55 ] || { cat "$said"; return 1; }
}
# What everybody may read, but for a sandbox: a file in a home, one in /tmp, and the device of zeros by another name.
on sh -c 'for place in /home /tmp; do echo probe >$place/denied-probe; chmod 644 $place/denied-probe; done; mknod -m 666 /dev/denied-probe c 1 5'
check "the probe sees what root may do without a sandbox" sees
# Ports are denied by BPF, which not every systemd is built with.
ports=()
if ! on systemctl --version | grep -q '+BPF_FRAMEWORK'; then
    skip "the agent opens no port" "this systemd has no BPF_FRAMEWORK, and does not enforce SocketBindDeny="
    ports=(listen-tcp listen-tcp-6 listen-udp)
fi
check "within the agent's sandbox everything else is denied" probed relay-agent agent /var/lib/relay write-state run-shell "${ports[@]}"
check "within the relay's sandbox everything else is denied" probed relay relay /var/lib/relay-agent \
    write-state listen-tcp listen-tcp-6 listen-udp

[ $failed -eq 0 ] || on journalctl -q --no-pager -o short-monotonic -u relay-agent -u relay >"${REAL_TESTS_JOURNAL:-/dev/null}"
