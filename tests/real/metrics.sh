#!/bin/bash
# The metrics of both programs as Prometheus's own parser and linter read them, in both formats; the alert rules with
# their tests; the check for monitors by its exit codes; --watch on a terminal.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

need openssl openssl
need curl curl
need promtool prometheus
docs=$here/../../docs

check "the alert rules are rules" promtool check rules "$docs/alerts.yml"
check "the alert rules pass their tests" promtool test rules "$docs/alerts.test.yml"

start_relay
upstream metrics down "http://127.0.0.1:9"
agent_network='proxy = "none"'
start_agent metrics
connect metrics
call -o /dev/null "$(url metrics down)/x"

# scrape PROGRAM SOCKET ACCEPT FILE
scrape() { curl -sS --max-time $LIMIT --unix-socket "$2" -H "Accept: $3" "http://$1/metrics" >"$4"; }

# linted PROGRAM SOCKET: promtool finds nothing to say.
linted() {
    scrape "$1" "$2" text/plain "$work/$1.prom" || return 1
    local said
    said=$(promtool check metrics <"$work/$1.prom" 2>&1) || { echo "$said"; return 1; }
    [ -z "$said" ] || { echo "$said"; return 1; }
}

# as_open_metrics PROGRAM SOCKET: the other format says so, and ends as it must.
as_open_metrics() {
    curl -sS --max-time $LIMIT --unix-socket "$2" -D "$work/$1.head" -H "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5" \
        "http://$1/metrics" >"$work/$1.openmetrics" || return 1
    grep -qi '^content-type: application/openmetrics-text; version=1.0.0' "$work/$1.head" || return 1
    [ "$(tail -n 1 "$work/$1.openmetrics")" = "# EOF" ]
}

check "promtool reads the agent's metrics" linted agent "$work/metrics.sock"
check "promtool reads the relay's metrics" linted relay "$work/relay.sock"
check "the agent speaks OpenMetrics" as_open_metrics agent "$work/metrics.sock"
check "the relay speaks OpenMetrics" as_open_metrics relay "$work/relay.sock"

# ends_with CODE WORD COMMAND...: the exit code, and how the one line begins.
ends_with() {
    local code=$1 word=$2 line status
    shift 2
    line=$("$@")
    status=$?
    echo "$status: $line"
    [ "$status" = "$code" ] && [ "${line%% *}" = "$word" ] && [ "$(wc -l <<<"$line")" = 1 ]
}

check "an upstream that is down is critical" ends_with 2 CRITICAL agent metrics status --check
# The authority of these tests signs for two days only.
check "a certificate that expires soon is a warning" ends_with 1 WARNING relay status --check
stop "$agent_pid"
check "an agent that does not run is critical" ends_with 2 CRITICAL agent metrics status --check

# watched: on a terminal of script(1), --watch takes the alternate screen and gives it back at Ctrl-C.
watched() {
    local typescript=$work/typescript
    script -qec "stty rows 24 cols 80; timeout -s INT 8 $AGENT_BINARY status --watch --interval 200ms --config $work/metrics.toml" "$typescript" </dev/null >/dev/null 2>&1
    grep -q $'\x1b\[?1049h' "$typescript" && grep -q $'\x1b\[?1049l' "$typescript"
}
if command -v script >/dev/null; then
    start metrics "$AGENT_BINARY" run --config "$work/metrics.toml"
    wait_until 20 agent metrics status || give_up "the agent starts again"
    check "--watch gives the terminal back" watched
else
    skip "--watch" "script(1) is not here"
fi
