#!/bin/bash
# The packages, made from this build: installed in a clean Debian machine with its own systemd, upgraded while calls are
# under way, removed, installed again, purged. Then the .rpm ones by rpm: in a root of their own, where they find nothing,
# and on that machine, where they are upgraded while calls are under way.
#
# File systems are mounted in a namespace of this script's own, so nothing is left behind.
if [ "${IN_OWN_MOUNTS:-}" != yes ] && [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
    exec unshare --mount --propagation private env IN_OWN_MOUNTS=yes "$0" "$@"
fi
# shellcheck source=tests/real/harness.sh
. "$(dirname "$0")/harness.sh"
# shellcheck source=tests/real/parts/machine.sh
. "$here/parts/machine.sh"

need openssl openssl
need curl curl
need python3 python3-minimal
need rpmbuild rpm
need mandoc mandoc
need dpkg-shlibdeps dpkg-dev
need_machine
token=
undo() { end_machine; }

build_packages 0.1.0 0.1.1
boot_machine
start service nsenter -t "$machine" -n python3 "$here/parts/service_server.py" 8080
wait_until 20 listening 8080 beside || give_up "the service starts"

# ---- what is in them

FILES="bin/PROGRAM lib/systemd/system/UNIT.service lib/systemd/system/UNIT.socket lib/sysusers.d/NAME.conf lib/tmpfiles.d/NAME.conf
    share/man/man1/PROGRAM.1.gz share/bash-completion/completions/PROGRAM share/zsh/vendor-completions/_PROGRAM
    share/fish/vendor_completions.d/PROGRAM.fish share/doc/NAME/copyright share/doc/NAME/third-party-licences
    share/doc/NAME/bom.cdx.json share/doc/NAME/docs/install.md share/doc/NAME/docs/alerts.yml share/doc/NAME/docs/status.schema.json
    share/doc/NAME/docs/dashboards/relay-agent.json share/doc/NAME/config/policy.test.toml share/doc/NAME/config/agent.toml"
# complete PROGRAM UNIT NAME: nothing is missing, and the configuration belongs to the administrator.
complete() {
    local file package=$work/packages/$3_0.1.0_amd64.deb
    dpkg-deb -c "$package" | awk '{ print $6 }' >"$work/files"
    for file in $FILES; do
        file=$(sed "s/PROGRAM/$1/; s/UNIT/$2/; s/NAME/$3/" <<<"$file")
        grep -qx "./usr/$file" "$work/files" || { echo "$3 has no /usr/$file"; return 1; }
    done
    [ "$(dpkg-deb -I "$package" conffiles)" = "/etc/relay-agent/$1.toml" ]
}
# documented PROGRAM: a manual page without warnings, licences and bill of materials that name the same dependencies.
documented() {
    local package=$here/../../target/package/$1
    mandoc -T lint -W warning "$package/$1.1" || return 1
    python3 - "$package" <<'PYTHON'
import json, re, sys
bill = json.load(open(sys.argv[1] + "/bom.cdx.json"))
listed = {(one["name"], one["version"]) for one in bill["components"]}
text = open(sys.argv[1] + "/third-party-licences").read()
licensed = set(re.findall(r"^  (\S+) (\S+): ", text, re.M))
assert listed == licensed and len(listed) > 100, listed ^ licensed
assert all(one["licenses"][0]["expression"] and one["hashes"] for one in bill["components"])
for name in ("tokio", "rustls", "aws-lc-sys"):
    assert re.search(rf"^Of .*\b{name} ", text, re.M), name
PYTHON
}
# linked NAME: no link from one of its documents to another leads nowhere.
linked() {
    local unpacked=$work/unpacked-$1
    dpkg-deb -x "$work/packages/$1_0.1.0_amd64.deb" "$unpacked" && python3 - "$unpacked/usr/share/doc/$1" <<'PYTHON'
import pathlib, re, sys
documents = sorted(pathlib.Path(sys.argv[1]).rglob("*.md"))
links = [(one, link) for one in documents for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", one.read_text())]
# The licence is in the file that each distribution has for it.
broken = [(one, link) for one, link in links if link != "LICENSE" and not (one.parent / link).exists()]
assert len(links) > 50 and not broken, broken
PYTHON
}
check "the agent's package has all it should" complete agent relay-agent relay-agent
check "the relay's package has all it should" complete relay relay relay-agent-relay
check "links in the agent's documents lead somewhere" linked relay-agent
check "links in the relay's documents lead somewhere" linked relay-agent-relay
check "the agent's manual page, licences and bill of materials" documented agent
check "the relay's manual page, licences and bill of materials" documented relay

# ---- a life on Debian

installed() {
    install_both 0.1.0 &&
        [ "$(on systemctl is-active relay-agent)" = active ] &&
        [ "$(on systemctl is-enabled relay-agent)" = enabled ] &&
        [ "$(on systemctl is-active relay)" = inactive ] &&
        [ "$(on systemctl is-enabled relay)" = disabled ] &&
        [ "$(on stat -c '%U %G %a' /etc/relay-agent/agent.toml)" = "root relay-agent 640" ] &&
        [ "$(on stat -c '%U %G %a' /var/lib/relay-agent)" = "relay-agent relay-agent 700" ] &&
        [ "$(on stat -c '%U %G %a' /etc/relay-agent/tls)" = "root relay 750" ] &&
        on agent status && on agent config check
}
check "installed: the agent runs, the relay waits for its configuration" installed

connected() {
    configure_both && on relay config check && on systemctl reload relay-agent &&
        on systemctl enable --now relay && connect_both main && wait_until 30 answered
}
check "configured and connected: calls pass" connected

# How often systemd has started the agent.
starts() { on journalctl -q --no-pager -u relay-agent | grep -c 'Starting relay-agent.service'; }
handed_over() { [ "$(starts)" -ge 1 ] && [ "$(starts)" = "$starts_before" ]; }
# upgraded UNIT COMMAND...: a call of six seconds and callers who ask without a pause live through it.
upgraded() {
    local unit=$1 before long
    shift
    before=$(main_pid "$unit")
    starts_before=$(starts)
    begins_long 6 || return 1
    under_load 1 on "$@" || return 1
    wait "$long" && grep -qx "the right body" "$work/long.txt" || { cat "$work/long.txt"; return 1; }
    [ "$(on systemctl is-active "$unit")" = active ] && [ "$(main_pid "$unit")" != "$before" ]
}
# One that was accepted just before, and asks just after, is told that the relay stops.
allowed_answer='"delivery":"not-sent"'
check "the relay upgraded: a call under way finishes, others are answered or safe to repeat" \
    upgraded relay dpkg -i /packages/relay-agent-relay_0.1.1_amd64.deb
allowed_answer=
check "the agent upgraded: a call under way finishes, and no other fails" upgraded relay-agent dpkg -i /packages/relay-agent_0.1.1_amd64.deb
check "it handed over to the new program, and was not restarted" handed_over
# The new program would not start: the old one says so, and is not ended for a program that cannot follow.
goes_on() {
    local before went_on=no
    before=$(main_pid relay-agent)
    on sed -i '1i mistake = 1' /etc/relay-agent/agent.toml
    on dpkg -i /packages/relay-agent_0.1.1_amd64.deb >"$work/goes-on.txt" 2>&1 &&
        grep "the running one goes on" "$work/goes-on.txt" >/dev/null &&
        [ "$(main_pid relay-agent)" = "$before" ] && answered && went_on=yes
    on sed -i '1d' /etc/relay-agent/agent.toml
    [ $went_on = yes ] || { cat "$work/goes-on.txt"; on systemctl status relay-agent; return 1; }
    on systemctl restart relay-agent && wait_until 60 answered
}
check "an upgrade to what could not start leaves the old program running, and says why" goes_on
kept_configuration() { on grep -q authority.pem /etc/relay-agent/agent.toml && on grep -q 127.0.0.1:8443 /etc/relay-agent/relay.toml; }
check "upgrades keep the configuration" kept_configuration

removed() {
    on dpkg -r relay-agent && ! on test -e /usr/bin/agent && [ "$(on systemctl is-active relay-agent)" != active ] &&
        on test -e /etc/relay-agent/agent.toml && on test -e /var/lib/relay-agent
}
again() { on dpkg -i /packages/relay-agent_0.1.1_amd64.deb && wait_until 30 answered; }
purged() {
    on dpkg -P relay-agent relay-agent-relay && ! on test -e /var/lib/relay-agent && ! on test -e /var/lib/relay &&
        ! on test -e /etc/relay-agent/agent.toml && ! on test -e /etc/relay-agent/relay.toml &&
        ! on test -e /run/relay && ! on test -e /run/relay-agent &&
        ! on find /etc/systemd /var/lib/systemd -name 'relay*' | grep .
}
check "removed: the agent ends, configuration and connections stay" removed
check "installed again: the connection is back" again
check "purged: nothing of either is left but what the administrator made" purged

# ---- rpm

# In an overlay of the clean root, which has sh and systemd's tools for the scripts.
by_rpm() {
    unshare --mount --propagation private bash -euc '
        over=$(mktemp -d /run/machine-XXXXXX)
        mount -t tmpfs rpm "$over"
        mkdir "$over/upper" "$over/work" "$over/root"
        root=$over/root
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$over/upper,workdir=$over/work" "$root"
        mount -t proc proc "$root/proc"
        # The dependencies are there, but as Debian packages.
        rpm() { command rpm --root "$root" --dbpath /var/lib/rpm "$@" 2>/dev/null; }
        rpm -i --nodeps "$2"/*-0.1.0.x86_64.rpm
        for program in agent relay; do
            chroot "$root" "/usr/bin/$program" --version
            chroot "$root" "/usr/bin/$program" config check || [ $program = relay ]
        done
        test "$(chroot "$root" stat -c "%U %G %a" /etc/relay-agent/agent.toml)" = "root relay-agent 640"
        test "$(chroot "$root" stat -c "%U %a" /var/lib/relay)" = "relay 700"
        rpm -q --configfiles relay-agent | grep -x /etc/relay-agent/agent.toml
        echo "# mine" >>"$root/etc/relay-agent/agent.toml"
        rpm -U --nodeps "$2"/*-0.1.1.x86_64.rpm
        grep -q "# mine" "$root/etc/relay-agent/agent.toml"
        test "$(rpm -q --queryformat "%{VERSION}" relay-agent)" = 0.1.1
        rpm -e --nodeps relay-agent relay-agent-relay
        test ! -e "$root/usr/bin/agent" -a ! -e "$root/usr/bin/relay"
        grep -q "# mine" "$root/etc/relay-agent/agent.toml.rpmsave"
        ' _ "$machine_root" "$work/packages"
}
check "the .rpm packages: installed, upgraded, erased" by_rpm

# Debian's rpm asks to be told that this is meant; that systemd is there, its database does not know.
rpm_on() { on rpm --force-debian --nodeps "$@"; }
# The user is there already, from the .deb.
rpm_installed() {
    on rm -rf /etc/relay-agent &&
        rpm_on -i /packages/relay-agent-0.1.0.x86_64.rpm /packages/relay-agent-relay-0.1.0.x86_64.rpm &&
        [ "$(on systemctl is-active relay-agent)" = inactive ] &&
        [ "$(on stat -c '%U %G %a' /etc/relay-agent/agent.toml)" = "root relay-agent 640" ] &&
        [ "$(on stat -c '%U %G %a' /etc/relay-agent/tls)" = "root relay 750" ] || return 1
    configure_both && on systemctl enable --now relay-agent relay && connect_both main && wait_until 30 answered
}
rpm_erased() {
    rpm_on -e relay-agent relay-agent-relay && ! on test -e /usr/bin/agent && ! on test -e /usr/bin/relay &&
        [ "$(on systemctl is-active relay-agent)" != active ] && [ "$(on systemctl is-active relay)" != active ] &&
        on test -e /etc/relay-agent/agent.toml.rpmsave && on test -e /var/lib/relay-agent/connections &&
        ! on find /etc/systemd -name 'relay*' | grep .
}
check "installed by rpm, started and connected: calls pass" rpm_installed
allowed_answer='"delivery":"not-sent"'
check "the relay upgraded by rpm: a call under way finishes, others are answered or safe to repeat" \
    upgraded relay rpm --force-debian --nodeps -U /packages/relay-agent-relay-0.1.1.x86_64.rpm
allowed_answer=
check "the agent upgraded by rpm: a call under way finishes, and no other fails" \
    upgraded relay-agent rpm --force-debian --nodeps -U /packages/relay-agent-0.1.1.x86_64.rpm
check "it handed over to the new program, and was not restarted (rpm)" handed_over
check "upgrades by rpm keep the configuration" kept_configuration
check "erased by rpm: both end, configuration and connections stay" rpm_erased
[ $failed -eq 0 ] || on journalctl -q --no-pager -o short-monotonic -u relay-agent -u relay >"${REAL_TESTS_JOURNAL:-/dev/null}"
