#!/bin/bash
# The unit files as systemd reads them: no key that it does not know, and no more exposed than they have been.
# What the units do is in systemd.sh.
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"

# Ten times what `systemd-analyze security` says (0 is best, 100 worst). To be lowered when a unit gets better, never raised.
# Of what is left, most is the network, without which neither has a purpose.
AGENT_EXPOSURE=14
RELAY_EXPOSURE=14

command -v systemd-analyze >/dev/null || skip_all "systemd-analyze is missing"
units=$here/../../systemd
mkdir "$work/units"
# As they are installed, but with programs that are there.
for program in agent relay; do
    printf '#!/bin/sh\n' >"$work/$program"
    chmod 755 "$work/$program"
done
as_installed() { sed "s|=/usr/bin/agent |=$work/agent |; s|=/usr/bin/relay |=$work/relay |" "$1" >"$work/units/$2"; }
for kind in service socket; do
    as_installed "$units/agent.$kind" "relay-agent.$kind"
    as_installed "$units/relay.$kind" "relay.$kind"
done

# It ends with 0 when it has only warned, so it must not say anything.
verified() {
    local said
    said=$(SYSTEMD_UNIT_PATH=$work/units: systemd-analyze verify --man=no "$work/units/$1" 2>&1) || { echo "$said"; return 1; }
    [ -z "$said" ] || { echo "$said"; return 1; }
}
notices_mistakes() {
    sed 's/^ProtectSystem=/ProtectSytem=/' "$work/units/relay-agent.service" >"$work/units/mistaken.service"
    ! verified mistaken.service
}
exposure() { systemd-analyze security --no-pager --offline=true --threshold="$2" "$1"; }

check "a misspelt key would be noticed" notices_mistakes
for unit in relay-agent.service relay-agent.socket relay.service relay.socket; do
    check "systemd has nothing to say about $unit" verified $unit
done
check "the agent is no more exposed than it was" exposure "$units/agent.service" $AGENT_EXPOSURE
check "the relay is no more exposed than it was" exposure "$units/relay.service" $RELAY_EXPOSURE
notices_exposure() {
    sed '/^NoNewPrivileges=/d' "$units/agent.service" >"$work/units/exposed.service"
    ! exposure "$work/units/exposed.service" $AGENT_EXPOSURE
}
check "a setting that is taken away would be noticed" notices_exposure

# What systemd-sysusers and systemd-tmpfiles would do.
if [ "$(id -u)" = 0 ]; then
    made() {
        local root=$work/root program
        mkdir -p "$root/etc"
        for program in agent relay; do
            systemd-sysusers --root="$root" "$units/$program.sysusers" && systemd-tmpfiles --root="$root" --create "$units/$program.tmpfiles" || return 1
        done
        grep -q '^relay-agent:.*:/usr/sbin/nologin$' "$root/etc/passwd" && grep -q '^relay:.*:/usr/sbin/nologin$' "$root/etc/passwd" &&
            [ "$(stat -c %a "$root/var/lib/relay-agent")" = 700 ] && [ "$(stat -c %a "$root/var/lib/relay")" = 700 ]
    }
    check "users and folders are made" made
else
    skip "users and folders are made" "only root can make users"
fi
