# shellcheck shell=bash disable=SC2034  # what it sets is for the scripts
# What every script in this folder shares: a relay and agents of this build in a temporary directory, results as
# lines, and the end of everything that was started. Sourced, never run.
#
# Each script prints `ok NAME`, `not ok NAME` or `skip NAME: why` lines and ends with status 1 when one is not ok.
# Nothing listens on or talks to anything but loopback, or namespaces that a script makes. Only processes that were
# started here are ended, by their ids.
#
# RELAY_BINARY, AGENT_BINARY   programs to test; without them, `cargo build --release` makes them
# REAL_TESTS_CACHE             where Python environments and the like stay for the next run

set -u
# Scripts give the programs under test a home of their own; the compiler still lives in this one.
export RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
script=$(basename "$0" .sh)
work=$(mktemp -d "/tmp/real-$script-XXXXXX")
# Servers that drop root must get through to their own folders.
chmod 711 "$work"
# Not below a home folder: servers that drop root run programs from it.
cache=${REAL_TESTS_CACHE:-/var/tmp/relay-agent-real-tests-$(id -u)}
if ! mkdir -p "$cache" || [ ! -O "$cache" ]; then
    echo "not ok $script: $cache is not ours"
    exit 1
fi
started=()
failed=0
# Seconds that any one step may take: many times what it needs. A call that hangs must not hang the tests.
LIMIT=300
# What is waited for may take so many times what a quiet machine needs at the most. Who has it goes on at once.
PATIENCE=6
# Where nginx and ip are, which not every user's PATH has.
PATH=$PATH:/usr/sbin:/sbin
# A thousand callers need two sockets each.
ulimit -n 8192 2>/dev/null || true
# A proxy of the machine that the tests run on is no part of any test.
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy

# ---- results

ok() { echo "ok $script: $1"; }

not_ok() {
    echo "not ok $script: $1"
    failed=1
}

skip() { echo "skip $script: $1: $2"; }

# skip_all WHY: the whole script cannot run here.
skip_all() {
    skip "everything" "$1"
    exit 0
}

# check NAME COMMAND...: ok if the command succeeds; else its output is shown.
check() {
    local name=$1
    shift
    if "$@" >"$work/check.log" 2>&1; then
        ok "$name"
    else
        not_ok "$name"
        tail -n 25 "$work/check.log" | sed 's/^/    /' >&2
    fi
}

# give_up WHAT: a step failed without which nothing else can be tested.
give_up() {
    not_ok "$1"
    local log
    for log in "$work"/*.log; do
        echo "    --- ${log##*/}" >&2
        tail -n 15 "$log" | sed 's/^/    /' >&2
    done
    exit 1
}

# ---- processes

# start NAME COMMAND...: in the background, logging to $work/NAME.log; sets $last_pid.
start() {
    local name=$1
    shift
    "$@" </dev/null >>"$work/$name.log" 2>&1 &
    last_pid=$!
    started+=("$last_pid")
}

# stop PID: asks, insists after thirty seconds, and waits.
stop() {
    local pid=$1 tries=0
    kill -TERM "$pid" 2>/dev/null
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 600 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
}

# Last started, first ended. Scripts that make more than processes and files define undo().
finish() {
    local status=$? index
    trap - EXIT
    for ((index = ${#started[@]} - 1; index >= 0; index--)); do
        stop "${started[index]}" 2>/dev/null
    done
    if declare -F undo >/dev/null; then undo; fi
    if [ -n "${REAL_TESTS_KEEP:-}" ]; then echo "kept $work" >&2; else rm -rf "$work"; fi
    [ $failed -eq 0 ] || status=1
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# wait_until SECONDS COMMAND...: until the command succeeds; fails when it has not by then, nor on a busy machine.
wait_until() {
    local deadline=$((SECONDS + $1 * PATIENCE))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}

# free_port: a loopback port on which nobody listens, and that was not given before. It is none of those that the system
# gives to whoever dials, so that it is still free when somebody begins to listen there.
free_port() {
    /usr/bin/env python3 - "$work/ports" <<'PYTHON'
import random, socket, sys
with open(sys.argv[1], "a+") as file:
    file.seek(0)
    given = file.read().split()
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                end.bind(("127.0.0.1", port))
            except OSError:
                continue
        if str(port) not in given:
            break
    print(port, file=file)
print(port)
PYTHON
}

# listening PORT [COMMAND PREFIX...]: whether something accepts there.
listening() {
    local port=$1
    shift
    "$@" bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
}

# memory_peak PID: the most resident memory that it ever had, in KiB.
memory_peak() { awk '/^VmHWM:/ {print $2}' "/proc/$1/status"; }

# ---- what tests need

# need PROGRAM PACKAGE...: the program is there, or root installs the Debian packages; else the whole script is skipped.
need() {
    local program=$1
    shift
    command -v "$program" >/dev/null && return
    install_packages "$@" && command -v "$program" >/dev/null && return
    skip_all "$program is missing, and could not be installed (as root: apt-get install $*)"
}

# install_packages PACKAGE...: with apt-get, as root.
install_packages() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return
    # RUNLEVEL=1 keeps packages from starting their daemons.
    local -a install=(env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@")
    "${install[@]}" >"$work/install.log" 2>&1 && return
    apt-get update >>"$work/install.log" 2>&1
    "${install[@]}" >>"$work/install.log" 2>&1
}

# python_environment PACKAGE...: sets $python to an interpreter that has these packages, kept between runs.
python_environment() {
    local system=/usr/bin/python3 key
    [ -x $system ] || system=$(command -v python3) || skip_all "python3 is missing"
    key=$(echo "$*" | tr ' ' '_')
    python=$cache/python/$key/bin/python
    # The mark says that a former installation came to its end.
    if [ ! -e "$cache/python/$key/complete" ]; then
        "$system" -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
        rm -rf "${cache:?}/python/$key"
        if ! { mkdir -p "$cache/python" && $system -m venv "$cache/python/$key" \
            && "$python" -m pip install -q "$@" && touch "$cache/python/$key/complete"; } >"$work/install.log" 2>&1; then
            skip_all "the Python packages $* could not be installed"
        fi
    fi
}

build_programs() {
    [ -n "${RELAY_BINARY:-}" ] && [ -n "${AGENT_BINARY:-}" ] && return
    local root target
    root=$(cd "$here/../.." && pwd)
    (cd "$root" && cargo build --release --locked --quiet) || give_up "cargo build --release"
    target=${CARGO_TARGET_DIR:-$root/target}
    RELAY_BINARY=$target/release/relay
    AGENT_BINARY=$target/release/agent
}

# ---- relay and agents

# What scripts may set before start_relay and start_agent.
relay_address=127.0.0.1      # where the relay listens; agents and callers use it too
relay_in=()                  # command prefix of the relay, such as `ip netns exec NAME`
agent_in=()                  # command prefix of the agent and its commands
agent_environment=()         # NAME=value, for the agent and its commands
agent_network='proxy = "none"'
max_in_flight=64

# start_relay: with TLS and a certificate of a private authority; sets $relay_pid, $relay_port, $token, $authority.
start_relay() {
    build_programs
    make_authority
    relay_port=$(free_port)
    install -d -m 700 "$work/relay-state"
    cat >"$work/relay.toml" <<TOML
listen = "$relay_address:$relay_port"
public_url = "https://$relay_address:$relay_port"
state_dir = "$work/relay-state"

[tls]
mode = "files"
certificate = "$work/relay-cert.pem"
key = "$work/relay-key.pem"

[admin]
socket = "$work/relay.sock"

[limits]
calls_per_connection = 4000
TOML
    start relay "${relay_in[@]}" "$RELAY_BINARY" serve --config "$work/relay.toml"
    relay_pid=$last_pid
    wait_until 20 relay connections || give_up "the relay starts"
    token=$(relay token create --name "$script" 2>>"$work/commands.log") || give_up "the relay makes a token"
}

# relay COMMAND...: the relay's command line.
relay() { "${relay_in[@]}" "$RELAY_BINARY" "$@" --config "$work/relay.toml"; }

# agent NAME COMMAND...: the command line of that agent.
agent() {
    local name=$1
    shift
    "${agent_in[@]}" env "${agent_environment[@]}" "$AGENT_BINARY" "$@" --config "$work/$name.toml"
}

# upstream AGENT NAME URL [LINE...]: lets this agent reach a service, with any method and path; LINEs are further keys.
upstream() {
    local file=$work/$1.toml name=$2 url=$3
    shift 3
    {
        printf '\n[[upstream]]\nname = "%s"\nurl = "%s"\nmax_in_flight = %s\n' "$name" "$url" "$max_in_flight"
        [ $# -eq 0 ] || printf '%s\n' "$@"
        printf '\n[[upstream.allow]]\nmethods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]\npath = "/{*rest}"\n'
    } >>"$file.upstreams"
}

# configure_agent NAME: writes its configuration, with the upstreams named so far.
configure_agent() {
    local name=$1
    install -d -m 700 "$work/$name-state"
    cat >"$work/$name.toml" <<TOML
state_dir = "$work/$name-state"

[admin]
socket = "$work/$name.sock"

[network]
$agent_network
ca_file = "$work/authority.pem"
TOML
    [ ! -e "$work/$name.toml.upstreams" ] || cat "$work/$name.toml.upstreams" >>"$work/$name.toml"
}

# start_agent NAME: starts the daemon, without any connection yet; sets $agent_pid.
start_agent() {
    local name=$1
    configure_agent "$name"
    start "$name" "${agent_in[@]}" env "${agent_environment[@]}" "$AGENT_BINARY" run --config "$work/$name.toml"
    agent_pid=$last_pid
    wait_until 20 agent "$name" status || give_up "the agent starts"
}

# connect NAME: initiates a connection of this name, accepts it with the agent of this name, and waits for the link.
connect() {
    local name=$1 code
    code=$(relay initiate --local public --remote private --name "$name" 2>>"$work/commands.log") || give_up "the relay initiates $name"
    # As whoever reads the message does when the relay is not reached in time: the same command again does no harm.
    wait_until 10 accepted "$name" "$code" || give_up "the agent accepts $name"
    wait_until 20 linked "$name" || give_up "the link of $name comes up"
}

accepted() { agent "$1" accept --yes - <<<"$2" >>"$work/commands.log" 2>&1; }

# linked NAME: whether calls of this connection reach its agent. An upstream that does not exist is the agent's own
# answer (404); 503 is the relay's: no link.
linked() {
    local status
    status=$(call -o /dev/null -w '%{http_code}' "$(url "$1" no-such-upstream)/")
    [ "$status" = 404 ] || [ "$status" = 403 ]
}

# url CONNECTION UPSTREAM: where callers find that service.
url() { echo "https://$relay_address:$relay_port/c/$1/$2"; }

# call CURL-ARGUMENTS...: curl as a caller of the relay.
call() { "${relay_in[@]}" curl -sS --max-time $LIMIT --cacert "$work/authority.pem" -H "Relay-Authorization: Bearer $token" "$@"; }

# make_authority: a private authority, and the relay's certificate from it.
make_authority() {
    authority=$work/authority.pem
    {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=Authority of a test" \
            -keyout "$work/authority-key.pem" -out "$authority" \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=relay.test" \
            -keyout "$work/relay-key.pem" -out "$work/relay.csr"
        openssl x509 -req -in "$work/relay.csr" -CA "$authority" -CAkey "$work/authority-key.pem" -CAcreateserial -days 2 \
            -extfile <(echo "subjectAltName=DNS:localhost,DNS:relay.test,IP:127.0.0.1,IP:$relay_address") -out "$work/relay-cert.pem"
    } >"$work/certificates.log" 2>&1 || give_up "openssl makes certificates"
    chmod 600 "$work/relay-key.pem"
}
