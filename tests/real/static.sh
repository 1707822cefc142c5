#!/bin/bash
# The static programs where there is nothing but random numbers, and where there is an old distribution: an agent in a folder without a
# library, a shell or a user, and one on Debian 11, look their relay and their service up by DNS, trust the authorities of
# the system, make their links and answer calls.
#
# STATIC_PROGRAMS   a folder with them; without it they are linked from a debug build
#
# File systems are mounted in a namespace of this script's own, so nothing is left behind.
if [ "${IN_OWN_MOUNTS:-}" != yes ] && [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    exec unshare --mount --propagation private env IN_OWN_MOUNTS=yes "$0" "$@"
fi
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

# The oldest Debian that its registry still has. Its C library is older than any that the packages run with.
OLD=bullseye
# Its name services, which are libraries of another C library than that in the programs.
OLD_PACKAGES=libc6,libc-bin,libnss-myhostname,libnss-mymachines,libnss-resolve,libnss-systemd
# A group that only the old distribution knows.
GROUP=4711

[ "$(id -u)" = 0 ] || skip_all "only root may change the root folder and make a network"
need openssl openssl
need curl curl
need python3 python3-minimal
need readelf binutils
need ip iproute2

if [ -z "${STATIC_PROGRAMS:-}" ]; then
    STATIC_PROGRAMS=$work/static
    # How they are linked is tried here, not how fast they are.
    STATIC_PROFILE=dev PACKAGE_FOLDER=$work "$here/../../packaging/build" static >"$work/build.log" 2>&1 || give_up "static programs are built"
fi

needs_nothing() {
    local program
    for program in agent relay; do
        readelf --wide --program-headers --dynamic "$STATIC_PROGRAMS/$program" >"$work/headers" && grep -q LOAD "$work/headers" || return 1
        ! grep -E 'INTERP|NEEDED' "$work/headers" || return 1
    done
}
# The C library says which kernel it takes at the least: Linux 3.2 is of 2012.
takes_old_kernels() {
    local program
    for program in agent relay; do
        readelf --notes "$STATIC_PROGRAMS/$program" 2>/dev/null | grep -E 'OS: Linux, ABI: [0-9.]+' || return 1
        readelf --notes "$STATIC_PROGRAMS/$program" 2>/dev/null | grep -q 'OS: Linux, ABI: 3\.2\.0' || return 1
    done
}
check "they need no library and no loader" needs_nothing
check "they take every kernel since Linux 3.2" takes_old_kernels

# With them, packages depend on no C library.
packs() {
    local name
    AGENT_BINARY=$STATIC_PROGRAMS/agent RELAY_BINARY=$STATIC_PROGRAMS/relay PACKAGE_FOLDER=$work/packages "$here/../../packaging/build" deb || return 1
    for name in relay-agent relay-agent-relay; do
        dpkg-deb --field "$work/packages/${name}"_*.deb Depends >"$work/depends" && grep systemd "$work/depends" && ! grep libc "$work/depends" || return 1
    done
}
if command -v dpkg-shlibdeps >/dev/null || install_packages dpkg-dev; then
    check "packages of them depend on no C library" packs
else
    skip "packages of them" "dpkg-dev is missing"
fi

# A network of their own, so that port 53 of this machine is left alone.
network=static-$$
ip netns add "$network" || skip_all "a network namespace cannot be made"
roots=()
undo() {
    local root
    ip netns delete "$network"
    for root in "${roots[@]}"; do umount "$root$work" "$root/dev/random" "$root/dev/urandom"; done
}
ip -n "$network" link set lo up

# in_root NAME: a command prefix that runs programs in this folder as their root folder.
in_root() {
    local root=$work/$1 device
    install -D -m 0755 "$STATIC_PROGRAMS/agent" "$root/agent"
    mkdir -p "$root/etc" "$root/dev" "$root$work"
    # A static program cannot ask its C library whether the kernel gives random numbers without them.
    for device in /dev/random /dev/urandom; do
        [ -e "$root$device" ] || : >"$root$device"
        mount --bind $device "$root$device" || skip_all "a device cannot be mounted in another place"
    done
    rm -f "$root/etc/resolv.conf"
    echo 'nameserver 127.0.0.1' >"$root/etc/resolv.conf"
    roots+=("$root")
    # The test's own folder has the configuration.
    mount --bind "$work" "$root$work" || skip_all "a folder cannot be mounted in another place"
    cat >"$work/in-$1" <<SCRIPT
#!/bin/bash
# There may be no env within. Where authorities are is not told, but found.
[ "\$1" != env ] || shift
unset SSL_CERT_FILE SSL_CERT_DIR
exec ip netns exec $network chroot $root "\$@"
SCRIPT
    chmod 755 "$work/in-$1"
    agent_in=("$work/in-$1")
}

cat >"$work/in-network" <<SCRIPT
#!/bin/bash
port=\$(sed -n 's/^listen = ".*:\([0-9]*\)"/\1/p' $work/relay.toml 2>/dev/null)
exec ip netns exec $network env RELAY__PUBLIC_URL=https://relay.test:\$port "\$@"
SCRIPT
chmod 755 "$work/in-network"
relay_in=("$work/in-network")
RELAY_BINARY=$STATIC_PROGRAMS/relay AGENT_BINARY=/agent

start names ip netns exec "$network" python3 -u "$here/parts/name_server.py"
start service ip netns exec "$network" python3 "$here/parts/service_server.py" 8080
wait_until 20 listening 8080 ip netns exec "$network" || give_up "the private service starts"
start_relay

# comes_up NAME [LINE...]: an agent that trusts the system's authorities alone; LINEs belong to [admin].
comes_up() {
    local name=$1
    shift
    upstream "$name" service "http://$name-service.test:8080"
    configure_agent "$name"
    sed -i '/^ca_file = /d' "$work/$name.toml"
    [ $# -eq 0 ] || sed -i "/^socket = /a $*" "$work/$name.toml"
    start "$name" "${agent_in[@]}" /agent run --config "$work/$name.toml"
    wait_until 20 agent "$name" status || give_up "the agent starts ($name)"
    connect "$name"
}
answers() { [ "$(call "$(url "$1" service)/hello")" = "the right body" ]; }
asked_for() { grep -q "^$1 " "$work/names.log"; }
diagnoses() { "${agent_in[@]}" /agent status --socket "$work/$1.sock" && "${agent_in[@]}" /agent doctor --config "$work/$1.toml"; }

# ---- nothing but the program, random numbers, what a machine says of names, and authorities where Fedora and its kin have them

in_root nothing
root=$work/nothing
echo 'hosts: files mymachines dns' >"$root/etc/nsswitch.conf"
install -D -m 0644 "$authority" "$root/etc/pki/tls/certs/ca-bundle.crt"
comes_up nothing
check "in an empty folder: calls pass" answers nothing
check "the relay's name was looked up by DNS" asked_for relay.test
check "the service's name was looked up by DNS" asked_for nothing-service.test
check "status and doctor work there" diagnoses nothing

# ---- an old distribution, as it is, with its name services

old_root() {
    local kept=$cache/static-$OLD-1
    if [ ! -e "$kept.complete" ]; then
        command -v mmdebstrap >/dev/null || install_packages mmdebstrap || return 1
        rm -rf --one-file-system "$kept"
        timeout 300 mmdebstrap --variant=extract --include=$OLD_PACKAGES $OLD "$kept" \
            "deb http://deb.debian.org/debian $OLD main" >"$work/old.log" 2>&1 || return 1
        touch "$kept.complete"
    fi
    cp -a "$kept" "$work/old"
}
if ! old_root; then
    skip "on an old distribution" "Debian $OLD could not be made: $(tail -n 1 "$work/old.log" 2>/dev/null)"
    exit
fi
in_root old
root=$work/old
echo 'root:x:0:0:root:/root:/bin/bash' >"$root/etc/passwd"
printf 'root:x:0:\npartner-it:x:%s:\n' $GROUP >"$root/etc/group"
printf '%s\n' 'passwd: files systemd' 'group: files systemd' 'hosts: files mymachines resolve [!UNAVAIL=return] dns myhostname' \
    >"$root/etc/nsswitch.conf"
install -D -m 0644 "$authority" "$root/etc/ssl/certs/ca-certificates.crt"
# A package's program needs a newer C library: what the static one is for.
is_old() { "${agent_in[@]}" /usr/bin/getconf GNU_LIBC_VERSION | grep -x 'glibc 2.31'; }
check "Debian 11 has the C library of 2020" is_old
comes_up old 'group = "partner-it"'
check "on it: calls pass" answers old
check "the service's name was looked up there" asked_for old-service.test
found_group() { [ "$(stat -c %g "$work/old.sock")" = $GROUP ]; }
check "the administrators' group was found" found_group
check "status and doctor work there too" diagnoses old
