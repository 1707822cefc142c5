#!/bin/bash
# An agent and a relay with one link and no call: no more threads than they need, and no more wake-ups than keeping the link
# alive takes. The agent's program and memory are no larger than they were.
#
# TRAINED=1   the programs given are those of packaging/build-release, which are smaller than plain ones
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

# How long it is counted, in seconds, and how often each may have gone to sleep meanwhile: about twice what was seen (35 to 38, 32 to 34).
# Counts, not times: they do not depend on how busy the machine is.
COUNTED=30
AGENT_SLEEPS=76
RELAY_SLEEPS=66
# The agent: the loop, and the audit log's two. The relay: the loop, and the store's.
AGENT_THREADS=3
RELAY_THREADS=2
# KiB of the agent's program, of its resident memory and of its share of it: somewhat more than was seen of a plain release
# program. Most of the memory is pages of the program.
PROGRAM=9216 RESIDENT=12288 PROPORTIONAL=10752
[ "${TRAINED:-}" != 1 ] || PROGRAM=8192
# Larger ones are not release programs, and say nothing.
RELEASE=20480

need openssl openssl
need curl curl
start_relay
start_agent idle
connect idle

threads() { find "/proc/$1/task" -mindepth 1 -maxdepth 1 | wc -l; }
# sleeps PID: how often its threads have gone to sleep by themselves.
sleeps() { cat /proc/"$1"/task/*/status | awk '/^voluntary_ctxt_switches:/ { n += $2 } END { print n }'; }
has_threads() { [ "$(threads "$1")" -le "$2" ]; }
sleeps_seldom() {
    echo "$(($3 - $2)) times in $COUNTED s"
    [ $(($3 - $2)) -le "$4" ]
}

# Threads that looked names up for the link end by themselves after a while.
check "the agent has no thread too many" wait_until 60 has_threads "$agent_pid" $AGENT_THREADS
check "neither has the relay" wait_until 60 has_threads "$relay_pid" $RELAY_THREADS
agent_before=$(sleeps "$agent_pid") relay_before=$(sleeps "$relay_pid")
sleep $COUNTED
agent_after=$(sleeps "$agent_pid") relay_after=$(sleeps "$relay_pid")
check "the agent wakes for its keep-alive only" sleeps_seldom "agent" "$agent_before" "$agent_after" $AGENT_SLEEPS
check "so does the relay" sleeps_seldom "relay" "$relay_before" "$relay_after" $RELAY_SLEEPS

# at_most WHAT KIB BOUND
at_most() {
    echo "$1: $2 KiB, at most $3"
    [ "$2" -le "$3" ]
}
in_memory() { awk -v what="$1:" '$1 == what { print $2 }' "/proc/$agent_pid/smaps_rollup"; }
program=$(($(stat -Lc %s "/proc/$agent_pid/exe") / 1024))
if [ "$program" -gt $RELEASE ]; then
    skip "program and memory" "this is not a release program"
else
    check "the agent's program is small" at_most "program" "$program" $PROGRAM
    check "so is what it holds of memory" at_most "resident" "$(in_memory Rss)" $RESIDENT
    check "and its share of what it holds" at_most "proportional" "$(in_memory Pss)" $PROPORTIONAL
fi
