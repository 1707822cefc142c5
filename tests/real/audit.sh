#!/bin/bash
# The audit log on a disk that runs full or hangs, under kill -9 and with a clock that jumps: what cannot be written
# down is refused before it is sent, calls resume by themselves, and every call that was answered has its line.
#
# The small disk is a tmpfs, and the one that hangs a file system that is frozen, both in a mount namespace of this
# script's own, so nothing is left behind.
if [ "${AUDIT_IN_NAMESPACE:-}" != yes ] && [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    exec unshare --mount env AUDIT_IN_NAMESPACE=yes "$0" "$@"
fi
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

# The agent writes while a mebibyte is free; the log of this test takes a fraction of one.
DISK_MIB=4

[ "${AUDIT_IN_NAMESPACE:-}" = yes ] || skip_all "only root may mount a small disk here"
need openssl openssl
need curl curl
need faketime faketime
# The library itself: the program forks, and the agent would not be the process that is stopped.
faketime=$(find /usr/lib /usr/local/lib -name libfaketime.so.1 2>/dev/null | head -n 1)
[ -n "$faketime" ] || skip_all "libfaketime.so.1 is not where faketime puts it"

disk=$work/disk
install -d -m 700 "$disk"
mount -t tmpfs -o "size=${DISK_MIB}m,mode=700" none "$disk" || give_up "a small disk is mounted"
hanging=$work/hanging
mkdir "$hanging"
undo() {
    ! mountpoint -q "$hanging" || umount "$hanging"
    umount "$disk"
}
log=$disk/audit.jsonl

mkdir "$work/files"
echo "done" >"$work/files/page"
port=$(free_port)
start server python3 -u -m http.server --bind 127.0.0.1 --directory "$work/files" "$port"
wait_until 20 listening "$port" || give_up "the server starts"
start_relay
printf '\n[audit]\nfile = "%s"\n' "$log" >>"$work/audited.toml.upstreams"
upstream audited files "http://127.0.0.1:$port"
start_agent audited
connect audited

# status ID: the status of a call that carries this id in its query.
status() { call -o "$work/answer" -w '%{http_code}' "$(url audited files)/page?id=$1"; }
is() { [ "$(status "$2")" = "$1" ]; }
# How many calls reached the server, and how many are in the log with its answer.
arrived() { grep -c 'GET /page' "$work/server.log"; }
written() { grep -c '"kind":"call".*"path":"/page".*"status":200' "$log"; }
agrees() { [ "$(arrived)" = "$(written)" ]; }
verified() { agent audited audit verify; }
told() { agent audited status | grep -q 'CANNOT BE WRITTEN'; }

check "calls pass while the log is written" is 200 first
check "each has its line" agrees

dd if=/dev/zero of="$disk/full" bs=64k >/dev/null 2>&1
# A call under way waits for its line; its caller gives up.
refused() { [ "$(call -m "${1:-2}" -o "$work/answer" -w '%{http_code}' "$(url audited files)/page?id=full")" = 503 ]; }
check "on a full disk calls are refused" wait_until 30 refused
before=$(arrived)
check "a refused call is not sent" refused $LIMIT
check "and says why" grep -q 'audit-unavailable.*not-sent\|not-sent.*audit-unavailable' "$work/answer"
check "nothing reached the server meanwhile" [ "$(arrived)" = "$before" ]
check "agent status says so" told
rm "$disk/full"
check "calls resume by themselves" wait_until 30 is 200 again
check "status is well again" wait_until 30 eval '! told'
check "the log is whole, and agrees with the server" eval 'verified && agrees'

# kill -9 under load: each answered call has its line, whatever became of the others.
: >"$work/answered"
load() {
    local id=0
    while [ ! -e "$work/enough" ]; do
        id=$((id + 1))
        is 200 "$id" && echo "$id" >>"$work/answered"
    done
}
load &
loader=$!
answered() { [ "$(wc -l <"$work/answered")" -ge "$1" ]; }
wait_until 60 answered 20 || give_up "calls are answered under load"
kill -KILL "$agent_pid"
wait "$agent_pid" 2>/dev/null
start_agent audited
wait_until 60 answered 60 || give_up "calls are answered after the agent was killed"
touch "$work/enough"
wait "$loader"
all_answered_are_written() { [ "$(written)" -ge $((2 + $(wc -l <"$work/answered"))) ]; }
check "after kill -9 the log is whole" verified
check "and every call that was answered is in it" all_answered_are_written
starts() { grep -c '"kind":"start"' "$log"; }
check "the kill shows: a start without a stop before it" [ "$(starts)" = 2 ]

# A clock that goes a day ahead, and back again.
stop "$agent_pid"
agent_environment=(LD_PRELOAD="$faketime" FAKETIME=+1d FAKETIME_DONT_FAKE_MONOTONIC=1)
start_agent audited
check "calls pass with a clock that is a day ahead" wait_until 30 is 200 ahead
stop "$agent_pid"
agent_environment=()
start_agent audited
check "and when it is back" wait_until 30 is 200 back
check "the log is whole though its times step back" verified
times_step_back() { ! sed 's/.*"time":"\([^"]*\)".*/\1/' "$log" | LC_ALL=C sort -c 2>/dev/null; }
check "and they do" times_step_back

# A disk that hangs. The first write that meets it is the runtime's own, and the agent stands still with it.
truncate -s 16M "$work/image"
if ! mkfs.ext4 -q "$work/image" >/dev/null 2>&1 || ! mount -o loop "$work/image" "$hanging" 2>/dev/null; then
    skip "a disk that hangs" "no file system can be mounted from a file here"
    exit 0
fi
log=$hanging/log/audit.jsonl
install -d -m 700 "$hanging/log"
printf '\n[audit]\nfile = "%s"\n' "$log" >>"$work/hung.toml.upstreams"
upstream hung files "http://127.0.0.1:$port"
start_agent hung
connect hung
hung() { call -m 3 -o "$work/answer" -w '%{http_code}' "$(url hung files)/page?id=$1"; }
passes() { [ "$(hung "$1")" = 200 ]; }
says_no() { [ "$(hung no)" = 503 ] && grep -q 'audit-unavailable' "$work/answer"; }
freeze() { fsfreeze --freeze "$hanging"; }
thaw() { fsfreeze --unfreeze "$hanging"; }
# Before anything is ended: what writes to a frozen file system cannot even be killed.
trap 'thaw 2>/dev/null || true; finish' EXIT
check "calls pass before the disk hangs" wait_until 20 passes before
# Where the disk was slow a moment before, the agent leaves it to a thread for a minute, and does not stand still.
stands_still() {
    local try
    for try in 1 2 3; do
        freeze || return 1
        hung first >/dev/null 2>&1
        wait_until 5 grep -q 'the agent stands still' "$work/hung.log" && return
        thaw
        wait_until 30 passes "after-try-$try"
        sleep 65
    done
    return 1
}
check "the agent's log says why it stands still" stands_still
thaw
check "it goes on by itself" wait_until 30 passes after
freeze || give_up "the disk hangs again"
hung second >/dev/null 2>&1
check "the next time calls are refused" wait_until 30 says_no
check "agent status says so" eval 'agent hung status | grep -q "CANNOT BE WRITTEN"'
thaw
check "and resume by themselves" wait_until 30 passes again
resumed() { grep -q '"kind":"resumed".*has not come back' "$log"; }
check "the log tells of it, and is whole" eval 'resumed && agent hung audit verify'
