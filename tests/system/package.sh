#!/usr/bin/env bash
# Tests the Debian package: what lintian and systemd-analyze say of it, and what happens in a Debian of its own that
# is booted with systemd (systemd-nspawn). Called by `tests/run --system`; as root.
#
#   tests/system/package.sh can      whether it can be booted here, and why not
#   tests/system/package.sh build    target/system/old.deb, and new.deb of a higher version
#   tests/system/package.sh judge    lintian, size, units, hardening, the packaged configuration
#   tests/system/package.sh boot     README's first commands; installs, edits, examines, reloads, kills, upgrades,
#                                    removes and purges it: tests/system/guest.sh
#
# The tree of the Debian is kept in target/system; what a boot writes is forgotten.
set -euo pipefail
cd "$(dirname "$0")/../.."

target="${CARGO_TARGET_DIR:-$PWD/target}"
readonly dir="$target/system"
readonly tree="$dir/tree" io="$dir/io"
readonly include=ca-certificates,dbus,init-system-helpers,jq,mosquitto,mosquitto-clients,passwd,systemd,systemd-sysv
# Bytes: a field engineer's link is slow.
readonly largest=10485760
# Tenths, as systemd-analyze takes them.
readonly exposure=15

# nspawn BOUND... -- COMMAND...: in the tree, with a network of its own and nothing it writes kept. There need not be a
# systemd outside.
nspawn() {
    unshare --mount sh -c 'mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && exec "$@"' sh \
        timeout 600 systemd-nspawn --quiet --register=no --keep-unit --volatile=overlay --private-network -D "$tree" "$@"
}

make_tree() {
    local suite
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    if [[ $(cat "$dir/tree.made" 2>/dev/null) == "$suite $include" ]]; then return; fi
    echo "making a Debian ($suite) in $tree"
    rm -rf "$tree" "$dir/tree.made"
    mkdir -p "$dir"
    mmdebstrap --quiet --mode=root --variant=apt --include="$include" "$suite" "$tree"
    echo "$suite $include" >"$dir/tree.made"
}

can() {
    local said
    if (($(id -u) != 0)); then
        echo "it needs root"
        return 1
    fi
    if ! said=$(make_tree 2>&1); then
        echo "no Debian could be made: ${said##*$'\n'}"
        return 1
    fi
    if ! said=$(nspawn /bin/true 2>&1); then
        echo "systemd-nspawn does not run here: ${said##*$'\n'}"
        return 1
    fi
}

build() {
    local version package
    mkdir -p "$io"
    package=$(packaging/build-deb.sh --out "$dir")
    version=$(dpkg-deb --field "$package" Version)
    mv "$package" "$io/old.deb"
    package=$(packaging/build-deb.sh --out "$dir" --version "$version.1" --binary "$target/release/tidegate")
    mv "$package" "$io/new.deb"
    ls -l "$io"/*.deb
}

judge() {
    local size unit root
    size=$(stat --format %s "$io/old.deb")
    echo "$size bytes"
    ((size <= largest))
    lintian --allow-root --fail-on error,warning --display-info "$io/old.deb"
    root=$(mktemp -d)
    # shellcheck disable=SC2064  # this directory
    trap "rm -rf '$root'" EXIT
    dpkg-deb --extract "$io/old.deb" "$root"
    for unit in tidegate tidegate@; do
        systemd-analyze security --offline=yes --threshold="$exposure" "$root/lib/systemd/system/$unit.service" |
            tail -n 1
    done
    (($(wc -l <"$root/etc/tidegate/tidegate.toml") < 40))
    "$root/usr/bin/tidegate" check "$root/etc/tidegate/tidegate.toml"
    # What is commented out is right as well.
    sed 's/^# \([a-z_]* = \|\[\)/\1/' "$root/etc/tidegate/tidegate.toml" |
        sed -e '/^kind = /s/none/plain/' -e '/^host = /d' -e '/^password_file = /d' -e '/^username = /d' \
            >"$root/all.toml"
    "$root/usr/bin/tidegate" check "$root/all.toml"
    bash -n "$root/usr/share/bash-completion/completions/tidegate"
    man --warnings -E UTF-8 -l "$root/usr/share/man/man1/tidegate.1.gz" 2>&1 >/dev/null | (! grep .)
}

boot() {
    make_tree
    rm -f "$io/status"
    cp README.md tests/system/guest.sh "$io/"
    cat >"$io/test.service" <<'UNIT'
[Unit]
After=dbus.service mosquitto.service
[Service]
Type=oneshot
ExecStart=/io/guest.sh
ExecStopPost=/usr/bin/systemctl --force --force poweroff
StandardOutput=append:/io/output
StandardError=inherit
UNIT
    : >"$io/output"
    nspawn --bind="$io:/io" --bind-ro="$io/test.service:/etc/systemd/system/test.service" \
        --boot systemd.wants=test.service >"$io/console" 2>&1 </dev/null || true
    cat "$io/output"
    [[ $(cat "$io/status" 2>/dev/null) == 0 ]]
}

case "${1-}" in
can | build | judge | boot) "$1" ;;
*)
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
