#!/usr/bin/env bash
# Builds the Debian package of this machine's architecture, and prints where it is.
#
#   packaging/build-deb.sh [--version VERSION] [--binary FILE] [--out DIRECTORY]
#
# VERSION is Cargo.toml's if not given, FILE is built if not given, DIRECTORY is target/debian. Needs cargo, binutils
# and dpkg-dev. With dpkg-deb by hand, not debhelper or cargo-deb: every file and every step of a maintainer script
# is written here, and nothing else has to be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-$PWD/target}"
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
binary=
out="$target/debian"
while (($#)); do
    case "$1" in
    --version) version=$2 ;;
    --binary) binary=$2 ;;
    --out) out=$2 ;;
    *)
        sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done
if [[ -z $binary ]]; then
    cargo build --release --locked --bin tidegate --features pages >&2
    binary="$target/release/tidegate"
fi
arch=$(dpkg --print-architecture)
# Equal sources give an equal package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root="$work/root"
doc="$root/usr/share/doc/tidegate"
mkdir -p "$work/pages" "$doc" "$out"

# put MODE FILE PATH: into the package.
put() {
    install -D -m "$1" "$2" "$root$3"
}

# One unit is the master of the other: what is hardened in one is hardened in both.
instance_unit() {
    sed -e 's|^Description=.*|& (%i)|' \
        -e 's|tidegate\.toml|%i.toml|' \
        -e 's|^StateDirectory=tidegate$|&/%i|' \
        -e 's|^RuntimeDirectory=tidegate$|&-%i|' \
        -e 's/systemctl \(edit\|restart\) tidegate/&@NAME/' \
        -e 's|credentials/tidegate\.service|credentials/tidegate@NAME.service|' \
        -e '1i # A gateway beside others: /etc/tidegate/NAME.toml has state_dir = "/var/lib/tidegate/NAME" and\n# control_socket = "/run/tidegate-NAME/control.sock".' \
        packaging/systemd/tidegate.service
}

# Every crate in the program, with its licence.
crates() {
    cargo tree --locked --edges normal --features pages --prefix none --format '{p}|{l}' |
        sed -e 's/ ([^)|]*)//g' -e 's/ v\([0-9]\)/ \1/' | sort -u | grep -v '^\(tidegate\|adapter-\)'
}

copyright() {
    cat packaging/deb/copyright
    crates | sed 's/^\([^|]*\)|\(.*\)$/ \1: \2/'
}

# The texts of their licences, each once, under the names of all that have it.
third_party() {
    local crate licence file sum
    declare -A names texts
    while IFS='|' read -r crate licence; do
        for file in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"${crate/ /-}"/{LICEN[CS]E,COPYING,UNLICENSE,NOTICE}*; do
            [[ -f $file ]] || continue
            sum=$(sha256sum <"$file")
            names[$sum]+="${names[$sum]+, }${crate% *}"
            texts[$sum]=$file
        done
    done < <(crates)
    while IFS=$'\t' read -r licence sum; do
        printf '=== %s\n\n' "$licence"
        cat "${texts[$sum]}"
        printf '\n\n'
    done < <(for sum in "${!names[@]}"; do printf '%s\t%s\n' "${names[$sum]}" "$sum"; done | sort)
}

put 755 "$binary" /usr/bin/tidegate
strip --strip-all --remove-section=.comment "$root/usr/bin/tidegate"
put 644 packaging/tidegate.toml /etc/tidegate/tidegate.toml
for profile in packaging/profiles/*.toml; do
    put 644 "$profile" "/usr/share/tidegate/profiles/${profile##*/}"
done

put 644 packaging/systemd/tidegate.service /lib/systemd/system/tidegate.service
instance_unit >"$work/instance"
put 644 "$work/instance" /lib/systemd/system/tidegate@.service
put 644 packaging/systemd/sysusers.conf /usr/lib/sysusers.d/tidegate.conf
put 644 packaging/systemd/tmpfiles.conf /usr/lib/tmpfiles.d/tidegate.conf

"$binary" pages "$work/pages"
for page in "$work/pages"/*.1; do
    gzip -9n "$page"
    put 644 "$page.gz" "/usr/share/man/man1/${page##*/}.gz"
done
put 644 "$work/pages/tidegate" /usr/share/bash-completion/completions/tidegate
put 644 "$work/pages/tidegate.fish" /usr/share/fish/vendor_completions.d/tidegate.fish
put 644 "$work/pages/_tidegate" /usr/share/zsh/vendor-completions/_tidegate

sed "1s/([^)]*)/($version)/" packaging/deb/changelog | gzip -9n >"$doc/changelog.gz"
gzip -9n <config.example.toml >"$doc/config.example.toml.gz"
third_party | gzip -9n >"$doc/third-party-licences.gz"
copyright >"$doc/copyright"

mkdir -p "$work/debian" "$root/DEBIAN"
printf 'Source: tidegate\n\nPackage: tidegate\nArchitecture: %s\n' "$arch" >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O -e"$root/usr/bin/tidegate" 2>/dev/null | sed 's/^shlibs:Depends=//')
size=$(du -k -s --apparent-size --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/; s/@LIBRARIES@/$libraries/" \
    packaging/deb/control >"$root/DEBIAN/control"
echo /etc/tidegate/tidegate.toml >"$root/DEBIAN/conffiles"
for script in preinst postinst prerm postrm; do
    install -m 755 "packaging/deb/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -printf '%P\n' | sort | xargs md5sum) \
    >"$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN"/{control,conffiles,md5sums}
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +

package="$out/tidegate_${version}_$arch.deb"
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"
