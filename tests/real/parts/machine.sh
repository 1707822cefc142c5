# shellcheck shell=bash disable=SC2034,SC2154  # what it sets is for the scripts; what it reads is the harness's
# A small Debian machine with its own systemd, for scripts that install the packages: a clean root under an overlay in
# memory, in namespaces of its own, without any network but loopback. Sourced after harness.sh.

# From the registry of Debian: what the packages need, the other distributions' rpm, and a library that shifts a program's clock.
MACHINE_PACKAGES=systemd,systemd-sysv,dbus,ca-certificates,rpm,libfaketime

# need_machine: everything that a machine needs, or the script is skipped.
need_machine() {
    [ "$(id -u)" = 0 ] || skip_all "only root can boot a machine"
    need systemd-nspawn systemd-container
    need mmdebstrap mmdebstrap
    need dpkg-deb dpkg
    local suite
    # The same Debian where this is one: the programs need its C library.
    suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME")
    machine_root=$cache/debian-${suite:=bookworm}-2
    # The mark says that a former attempt came to its end.
    if [ ! -e "$machine_root.complete" ]; then
        rm -rf --one-file-system "$machine_root"
        timeout 900 mmdebstrap --variant=minbase --include=$MACHINE_PACKAGES "$suite" "$machine_root" >"$work/debian.log" 2>&1 \
            || skip_all "a clean Debian root could not be made: $(tail -n 1 "$work/debian.log")"
        touch "$machine_root.complete"
    fi
}

# build_packages VERSION...: packages of these versions, with the programs under test, in $work/packages.
build_packages() {
    local version name kind pack=$here/../../packaging
    build_programs
    mkdir -p "$work/packages"
    AGENT_BINARY=$AGENT_BINARY RELAY_BINARY=$RELAY_BINARY PACKAGE_VERSION=$1 PACKAGE_FOLDER=$work/packages \
        "$pack/build" >"$work/packages.log" 2>&1 || give_up "the packages are built"
    shift
    # What is in them is there already.
    for version in "$@"; do
        for name in agent relay; do
            for kind in deb rpm; do
                (cd "$pack/.." && SOURCE_DATE_EPOCH=0 packaging/pack $kind $name "$version" "$work/packages") >>"$work/packages.log" 2>&1 \
                    || give_up "the packages of $version are built"
            done
        done
    done
}

# boot_machine: starts it; sets $machine (its first process, as seen from here). $work/packages is its /packages.
boot_machine() {
    local over=$work/over
    machine_group=machine-$$
    if [ ! -d "$over/root" ]; then
        mkdir -p "$over" "$work/packages"
        # In memory, and in the script's own namespace of mounts (in_own_mounts).
        mount -t tmpfs machine "$over" || skip_all "a file system in memory cannot be mounted"
        mkdir "$over/upper" "$over/work" "$over/root"
        mount -t overlay overlay -o "lowerdir=$machine_root,upperdir=$over/upper,workdir=$over/work" "$over/root" \
            || skip_all "an overlay cannot be mounted"
    fi
    start machine unshare --mount --propagation private bash -c '
        set -e
        umount -R /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mkdir -p "/sys/fs/cgroup/$2"
        echo $$ >"/sys/fs/cgroup/$2/cgroup.procs"
        # Without all capabilities and the filter, systemd within does not enforce what it does by BPF.
        exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn -q -D "$1" --boot --register=no --keep-unit \
            --private-network --system-call-filter=bpf --capability=all --machine="$2" --console=pipe \
            --bind-ro="$3:/packages" --bind-ro="$4:/parts" --link-journal=no
        ' _ "$over/root" "$machine_group" "$work/packages" "$here/parts"
    machine_pid=$last_pid
    wait_until 60 machine_is_up || skip_all "systemd does not boot here: $(tail -n 1 "$work/machine.log")"
}

# reboot_machine: off, and on again with what was written to its disk.
reboot_machine() {
    on systemctl poweroff >/dev/null 2>&1
    wait_until 60 eval '! kill -0 $machine_pid' || return 1
    boot_machine
}

machine_is_up() {
    machine=$(pgrep -P "$machine_pid" 2>/dev/null | head -n 1)
    [ -n "$machine" ] && on systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'
}

# on COMMAND...: on the machine.
on() { nsenter -t "$machine" -a env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }

# beside COMMAND...: a program of this machine in the other's network.
beside() { nsenter -t "$machine" -n "$@"; }

# end_machine: after the processes that were started have been stopped. To be called in undo().
end_machine() {
    unshare --mount --propagation private bash -c '
        umount -R /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        for _ in $(seq 50); do
            find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} + 2>/dev/null && break
            sleep 0.1
        done' _ "${machine_group:-}" 2>/dev/null
    umount -R "$work/over" 2>/dev/null
}

# ---- a relay and an agent on it

# install_both VERSION: installs the packages of both and gives the relay its name and certificate.
install_both() {
    on dpkg -i "/packages/relay-agent_$1_amd64.deb" "/packages/relay-agent-relay_$1_amd64.deb"
}

# install_by_hand: programs and units as docs/install.md says, without packages.
install_by_hand() {
    local from=$work/packages/by-hand program
    mkdir -p "$from"
    build_programs
    cp "$AGENT_BINARY" "$from/agent"
    cp "$RELAY_BINARY" "$from/relay"
    cp "$here/../../systemd/"* "$from/"
    on sh -euc '
        cd /packages/by-hand
        install -m 0755 agent relay /usr/bin/
        for unit in service socket; do
            install -m 0644 agent.$unit /etc/systemd/system/relay-agent.$unit
            install -m 0644 relay.$unit /etc/systemd/system/relay.$unit
        done
        install -D -m 0644 agent.sysusers /etc/sysusers.d/relay-agent.conf
        install -D -m 0644 relay.sysusers /etc/sysusers.d/relay.conf
        install -D -m 0644 agent.tmpfiles /etc/tmpfiles.d/relay-agent.conf
        install -D -m 0644 relay.tmpfiles /etc/tmpfiles.d/relay.conf
        mkdir -p /etc/relay-agent
        systemd-sysusers
        systemd-tmpfiles --create relay-agent.conf relay.conf
        systemctl daemon-reload'
}

# drop_in UNIT NAME LINE...: lines of [Service] beside those of the unit.
drop_in() {
    local folder=/etc/systemd/system/$1.service.d name=$2
    shift 2
    on mkdir -p "$folder" && printf '%s\n' "[Service]" "$@" | on tee "$folder/$name.conf" >/dev/null && on systemctl daemon-reload
}

# no_drop_in UNIT NAME: without it again.
no_drop_in() { on rm "/etc/systemd/system/$1.service.d/$2.conf" && on systemctl daemon-reload; }

# configure_both: a relay at 127.0.0.1:8443 with a certificate of a private authority, an agent that trusts it.
configure_both() {
    make_authority
    local etc=$work/etc
    mkdir -p "$etc/tls"
    install -m 0644 "$work/relay-cert.pem" "$etc/tls/cert.pem"
    install -m 0640 "$work/relay-key.pem" "$etc/tls/key.pem"
    cp "$authority" "$etc/authority.pem"
    chmod 0644 "$etc/authority.pem"
    cat >"$etc/relay.toml" <<TOML
public_url = "https://127.0.0.1:8443"
[tls]
certificate = "/etc/relay-agent/tls/cert.pem"
key = "/etc/relay-agent/tls/key.pem"
TOML
    cat >"$etc/agent.toml" <<TOML
[network]
proxy = "none"
ca_file = "/etc/relay-agent/authority.pem"

[[upstream]]
name = "service"
url = "http://127.0.0.1:8080"

[[upstream.allow]]
methods = ["GET", "POST"]
path = "/{*rest}"
TOML
    local file
    for file in relay.toml agent.toml authority.pem tls/cert.pem tls/key.pem; do
        on tee "/etc/relay-agent/$file" <"$etc/$file" >/dev/null || return 1
    done
    on chgrp relay /etc/relay-agent/tls/key.pem && on chmod 0640 /etc/relay-agent/tls/key.pem
}

# connect_both NAME: an invitation, accepted; sets $token.
connect_both() {
    local code
    code=$(on relay initiate --local public --remote private --name "$1" 2>>"$work/commands.log") || return 1
    # As whoever reads the message does when the relay is not reached in time: the same command again does no harm.
    wait_until 10 accepted_there "$code" || return 1
    token=$(on relay token create --name "$1" 2>>"$work/commands.log")
}

accepted_there() { on agent accept --yes - <<<"$1" >>"$work/commands.log" 2>&1; }

# asks PATH [CURL-ARGUMENTS...]: one call to the service through relay and agent, by a new connection.
asks() {
    local path=$1
    shift
    beside curl -sS --max-time 60 --cacert "$work/authority.pem" -H "Relay-Authorization: Bearer $token" "$@" \
        "https://127.0.0.1:8443/c/main/service/$path"
}

# answered: whether a call comes through.
answered() { [ "$(asks hello -o /dev/null -w '%{http_code}' 2>/dev/null)" = 200 ]; }

# begins_long SECONDS: begins a call that lasts so long, and waits until the service has it; what it is answered is in
# $work/long.txt, and its process in $long.
begins_long() {
    local before
    before=$(grep -c '^begun' "$work/service.log")
    asks "after/$1" >"$work/long.txt" 2>&1 &
    long=$!
    wait_until 20 eval '[ "$(grep -c "^begun" "$work/service.log")" -gt '"$before"' ]'
}

# main_pid UNIT: its process.
main_pid() { on systemctl show -P MainPID "$1"; }

# under_load SECONDS COMMAND...: callers ask without a pause, each time by a new connection, while the command runs; says how
# many of their calls were answered, and fails if one was not. With allowed_answer set, that may be in other answers.
under_load() {
    local seconds=$1
    shift
    rm -f "$work/load.stop"
    beside python3 "$here/parts/steady_calls.py" "$work/authority.pem" "$token" "https://127.0.0.1:8443/c/main/service/hello" \
        "$work/load.stop" ${allowed_answer:+"$allowed_answer"} >"$work/load.txt" &
    local load=$!
    "$@"
    local status=$?
    sleep "$seconds"
    touch "$work/load.stop"
    wait "$load"
    status=$((status + $?))
    cat "$work/load.txt"
    return $status
}
