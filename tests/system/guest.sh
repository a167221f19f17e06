#!/bin/bash
# What happens to the package in a Debian that systemd has booted: run there by tests/system/package.sh, as a service.
# Writes /io/status: 0 only if everything held.
set -uo pipefail
export DEBIAN_FRONTEND=noninteractive
failed=0

# holds WHAT COMMAND...: it does.
holds() {
    local what=$1
    shift
    if "$@"; then
        echo "ok      $what"
    else
        echo "FAILED  $what: $*"
        failed=$((failed + 1))
    fi
}

# comes WHAT COMMAND...: it does within a minute.
comes() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" || ((SECONDS > deadline)); do sleep 0.2; done
    holds "$what" "$@"
}

show() { systemctl show --property="$1" --value "${2:-tidegate}"; }
is() { [[ $1 == "$2" ]] || { echo "        $1 is not $2"; false; }; }
differs() { [[ $1 != "$2" ]]; }
# active UNITS STATES
active() {
    local states
    # shellcheck disable=SC2086  # several
    states=$(systemctl is-active $1)
    [[ ${states//$'\n'/ } == "$2" ]]
}
# figure PATH: of `status`, for jq.
figure() { tidegate status --json 2>/dev/null | jq -r "$1"; }
figure_is() { [[ $(figure "$1") == "$2" ]]; }
more_than() { (($(figure "$1") > $2)) 2>/dev/null; }
# Shell patterns.
status_line() {
    # shellcheck disable=SC2053
    [[ $(show StatusText) == $1 ]]
}
# Not grep -q: who writes to it must not find it gone.
told() { systemctl status tidegate | grep -F "Status: \"$1" >/dev/null; }
logged() { journalctl -b -u "$1" -o cat | grep "$2" >/dev/null; }
starts() { journalctl -b -u "$1" -o cat | grep -c '^Started '; }
install_deb() { dpkg -i "$1" </dev/null >/io/dpkg.log 2>&1 || { cat /io/dpkg.log; false; }; }
no() { ! "$@"; }
quietly() { "$@" >/dev/null 2>&1; }

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# get PATH: from the status page.
get() (
    exec 3<>/dev/tcp/127.0.0.1/8080 || exit
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&3
    cat <&3
) 2>/dev/null
# serves PATH TEXT: it is there, and has that in it.
serves() {
    local said
    said=$(get "$1")
    [[ $said == "HTTP/1.1 200 "*"$2"* ]] || { printf '        %s\n' "${said:0:1000}"; false; }
}
mode() { stat -c '%a %U %G' "$1"; }

# The lines of README's "From box to value", as they are; a person reads what each says before the next.
comes_from_box_to_value() {
    local line lines box=/root/box
    # shellcheck disable=SC2016  # Markdown
    mapfile -t lines < <(sed -n '/^## From box to value/,/^## [^F]/{/^```sh/,/^```$/{/^```/!p}}' /io/README.md)
    holds "there are commands, six at most" test "${#lines[@]}" -ge 3 -a "${#lines[@]}" -le 6
    mkdir "$box"
    cp /io/old.deb "$box/tidegate_$(dpkg-deb -f /io/old.deb Version)_$(dpkg --print-architecture).deb"
    cd "$box" || return
    for line in "${lines[@]}"; do
        # apt asks whether it may.
        holds "README: $line" eval "$line" <<<y >>"$box/said" 2>&1
        if [[ $line == *simulate* ]]; then comes "the meter is there" listens 5020; fi
    done
    cd /
    sed 's/^/        /' "$box/said"
    holds "a value is printed" grep -q '"voltage_l1":2[0-9][0-9]' "$box/said"
    holds "the configuration is for root and its group" is "$(mode /etc/tidegate/tidegate.toml)" "640 root tidegate"
    holds "and is good" quietly tidegate check
    comes "is sound" quietly is_sound
    holds "nothing is wrong" is_sound
    kill %1
    comes "the meter is gone" no listens 5020
    holds "is purged" quietly dpkg -P tidegate
    rm -r "$box"
    systemctl daemon-reload
}
# Whether `doctor` finds nothing wrong; but for the room, since everything here is in memory.
is_sound() {
    local said
    said=$(tidegate doctor --json |
        jq -r '(.findings[] | select(.verdict != "ok" and .area != "disk") | .area + ": " + .what), "looked"')
    [[ $said == looked ]] || { printf '        %s\n' "$said"; false; }
}
# tells TEXT COMMAND...: it prints that, whatever its exit code.
tells() {
    local said text=$1
    shift
    said=$("$@" 2>&1)
    [[ $said == *"$text"* ]] || { printf '        %s\n' "$said"; false; }
}

installs() {
    holds "installs without a question" install_deb /io/old.deb
    holds "is started" active tidegate active
    holds "is enabled" systemctl --quiet is-enabled tidegate
    comes "systemctl status shows its line" told "no platform; 0 queued"
    holds "its directory is for root and its group" is "$(stat -c '%a %U %G' /etc/tidegate)" "750 root tidegate"
    holds "its database is for itself" is "$(stat -c '%U' /var/lib/tidegate)" tidegate
    holds "the units are right" systemd-analyze verify --man=no tidegate.service tidegate@second.service
    holds "it dumps no core" is "$(awk '/core file/ { print $5 }' "/proc/$(show MainPID)/limits")" 0
    holds "it has no capabilities" is "$(awk '/CapBnd/ { print $2 }' "/proc/$(show MainPID)/status")" 0000000000000000
    holds "its system calls are filtered" is "$(awk '/Seccomp:/ { print $2 }' "/proc/$(show MainPID)/status")" 2
    holds "root may ask" figure_is .uplink.state none
    holds "its group may ask" quietly runuser -u nobody -g tidegate -- tidegate status
    holds "nobody else may ask" no quietly runuser -u nobody -- tidegate status --socket /run/tidegate/control.sock
}

# A new meter on a serial line that is root's and dialout's, as they are. The simulation holds its end of the line open,
# and so the mark of the last process that had it for itself: each process gets a new one.
meter() {
    systemctl stop meter 2>/dev/null
    comes "no meter is left" no test -e /run/meter
    systemd-run --quiet --unit=meter tidegate simulate modbus --profile sdm230 --pty /run/meter
    comes "there is a meter" test -e /run/meter
    chown root:dialout "$(readlink -f /run/meter)"
    chmod 660 "$(readlink -f /run/meter)"
}

edits() {
    meter
    cat >/etc/tidegate/tidegate.toml <<'TOML'
[clock]
trust = "always"
[uplink]
kind = "plain"
username = "gateway-1"
password_file = "/run/credentials/tidegate.service/mqtt-password"
urls = ["mqtt://127.0.0.1:1883"]
insecure = true
[uplink.plain]
topic = "site/{endpoint}"
[adapters.modbus.site]
port = "/run/meter"
baud = 115200
parity = "none"
[endpoints.meter-1]
token = "meter-1"
[endpoints.meter-1.modbus]
unit = 1
profile = "sdm230"
period = "200ms"
TOML
    # A file that only root can read.
    (umask 077 && echo hunter2 >/root/mqtt-password)
    mkdir -p /etc/systemd/system/tidegate.service.d
    printf '[Service]\nLoadCredential=mqtt-password:/root/mqtt-password\n' \
        >/etc/systemd/system/tidegate.service.d/credential.conf
    holds "a credential that comes with the start is told so" tells "systemd makes it when the service starts" tidegate check
    systemctl daemon-reload
    holds "is restarted with what was edited" systemctl restart tidegate
    comes "reads the serial line" figure_is '.units[0].devices["meter-1"].presence' online
    comes "connects" figure_is .uplink.state up
    comes "delivers" more_than .ledger.landed 5
    comes "says so" status_line "up, 127.0.0.1 port 1883; *"
}

# What is wrong is named by `doctor`, with the service's user and rights; a bundle has it, and no secret.
is_examined() {
    comes "is sound" quietly is_sound
    holds "nothing is wrong" is_sound
    holds "the service is looked at" tells "tidegate.service is active (running)" tidegate doctor
    chmod 600 "$(readlink -f /run/meter)"
    holds "a port without rights is named" tells "TG-407 the user tidegate may not open it" tidegate doctor
    chmod 660 "$(readlink -f /run/meter)"
    systemctl stop mosquitto
    comes "a platform that is away is named" tells "TG-102" tidegate doctor
    holds "that is a failure" no quietly tidegate doctor
    systemctl start mosquitto
    comes "connects again" figure_is .uplink.state up
    printf '[Service]\nSetCredential=other:SECRET-credential\nEnvironment=KEY=SECRET-environment\n' \
        >/etc/systemd/system/tidegate.service.d/secret.conf
    systemctl daemon-reload
    holds "a bundle is packed" quietly tidegate support-bundle /root/bundle.tar.gz
    mkdir /root/bundle
    tar -xzf /root/bundle.tar.gz -C /root/bundle
    for file in journal.txt unit.txt service.txt status.json doctor.txt configuration.json; do
        holds "it has $file" test -s "/root/bundle/tidegate-support/$file"
    done
    holds "the journal is in it" grep -q 'connected to the platform' /root/bundle/tidegate-support/journal.txt
    holds "no secret is in it" no grep -rE 'SECRET|hunter2' /root/bundle
    rm -r /root/bundle /root/bundle.tar.gz /etc/systemd/system/tidegate.service.d/secret.conf
    systemctl daemon-reload
}

# A listener inside the hardened unit, beside the serial line and the control socket.
serves_a_page() {
    local landed
    landed=$(figure .ledger.landed)
    holds "nobody listens" no listens 8080
    printf '[http]\nlisten = "127.0.0.1:8080"\n' >>/etc/tidegate/tidegate.toml
    holds "is reloaded with a page" systemctl reload tidegate
    comes "listens" listens 8080
    page_is_served
    comes "goes on delivering from the serial line" more_than .ledger.landed "$((landed + 10))"
    holds "the control socket answers as well" figure_is .uplink.state up
}
page_is_served() {
    holds "the page is there" serves / '<title>Tidegate'
    comes "health is good" quietly serves /healthz '{"status":"ok"}'
    holds "that is what it says" serves /healthz '{"status":"ok"}'
    comes "metrics have the platform" quietly serves /metrics 'tidegate_uplink_state{state="up"} 1'
    holds "and what went to it" serves /metrics 'tidegate_samples_total{term="landed",reason=""} '
}

# What is edited is taken over while it runs: with `systemctl reload`, and by itself; nothing else restarts.
reloads() {
    local pid landed
    pid=$(show MainPID)
    landed=$(figure .ledger.landed)
    cp /etc/tidegate/tidegate.toml /root/one.toml
    printf '[endpoints.meter-2]\ntoken = "meter-2"\n[endpoints.meter-2.modbus]\nunit = 2\nprofile = "sdm230"\n' \
        >>/etc/tidegate/tidegate.toml
    holds "is reloaded" systemctl reload tidegate
    comes "has the endpoint that was added" figure_is .endpoints 2
    cp /root/one.toml /etc/tidegate/tidegate.toml
    comes "by itself no longer has it" figure_is .endpoints 1
    echo 'nonsense = 1' >>/etc/tidegate/tidegate.toml
    holds "a mistake is refused" no quietly systemctl reload tidegate
    comes "and told" logged tidegate 'nonsense'
    holds "and changes nothing" figure_is .endpoints 1
    cp /root/one.toml /etc/tidegate/tidegate.toml
    comes "goes on delivering" more_than .ledger.landed "$((landed + 10))"
    holds "is the same process" is "$(show MainPID)" "$pid"
}

is_restarted_by_the_watchdog() {
    local pid
    meter
    printf '[Service]\nWatchdogSec=3s\nTimeoutAbortSec=5s\n' >/etc/systemd/system/tidegate.service.d/test.conf
    systemctl daemon-reload
    systemctl restart tidegate
    pid=$(show MainPID)
    comes "lives longer than a watchdog of 3 s" outlives "$pid" 10
    holds "is the same process" is "$(show MainPID)" "$pid"
    landed=$(figure .ledger.landed)
    kill -STOP "$pid"
    comes "another process runs after SIGSTOP" another "$pid"
    holds "the watchdog did it" logged tidegate "Watchdog timeout"
    comes "and is active" active tidegate active
    meter
    comes "and reads and delivers again" more_than .ledger.landed "$((landed + 20))"
    page_is_served
    rm /etc/systemd/system/tidegate.service.d/test.conf
    systemctl daemon-reload
}
# outlives PID SECONDS: it has run for so long.
outlives() { (($(ps_seconds "$1") >= $2)); }
ps_seconds() { awk -v up="$(cut -d' ' -f1 /proc/uptime)" -v hz="$(getconf CLK_TCK)" '{ print int(up - $22 / hz) }' "/proc/$1/stat"; }
another() { differs "$(show MainPID)" "$1" && differs "$(show MainPID)" 0; }

# A backlog that nothing adds to any more.
backlog() {
    systemctl stop mosquitto
    comes "says that there is no platform" status_line "connecting to 127.0.0.1 port 1883; * queued; TG-*"
    comes "a backlog grows" more_than .ledger.queued 50
    systemctl stop meter
    comes "the meter is gone" figure_is '.units[0].devices["meter-1"].presence' offline
    queued=$(figure .ledger.queued)
    config=$(md5sum /etc/tidegate/tidegate.toml)
}

# survives VERSION DEB
survives() {
    local before beside
    before=$(starts tidegate)
    beside=$(($(starts tidegate@second) + $(starts tidegate@third)))
    holds "installs $1 without a question" install_deb "$2"
    holds "$1 is what is installed" is "$(dpkg-query -W -f '${Version}' tidegate)" "$(dpkg-deb -f "$2" Version)"
    holds "is active" active tidegate active
    holds "was restarted once" is "$(($(starts tidegate) - before))" 1
    holds "those beside it run, enabled or not" active "tidegate@second tidegate@third" "active active"
    holds "and were restarted once" is "$(($(starts tidegate@second) + $(starts tidegate@third) - beside))" 2
    holds "the one that was stopped stays so, though enabled" active tidegate@two inactive
    holds "the configuration is kept" is "$(md5sum /etc/tidegate/tidegate.toml)" "$config"
    comes "the backlog of $queued is kept" figure_is .ledger.queued "$queued"
    holds "the ledger adds up" figure_is .balance true
}

drains() {
    systemctl start mosquitto
    comes "the backlog goes up" figure_is .ledger.queued 0
    holds "the ledger adds up" figure_is .balance true
}

# One that runs without being enabled, one that is enabled and stopped, one that is enabled and runs.
has_instances() {
    local name
    for name in second two third; do
        holds "the configuration of $name is written" quietly tidegate init --config "/etc/tidegate/$name.toml" \
            --untested --modbus-rtu /dev/ttyS9 --profile sdm230 --uplink mqtt://localhost
    done
    holds "second starts" systemctl start tidegate@second
    holds "two and third are enabled, and start" quietly systemctl enable --now tidegate@two tidegate@third
    for name in second two third; do
        holds "$name answers on its own socket" quietly tidegate status --config "/etc/tidegate/$name.toml"
        holds "which is there for its group only" is "$(mode "/run/tidegate-$name/control.sock")" "660 tidegate tidegate"
        holds "$name has its own database" test -s "/var/lib/tidegate/$name/tidegate.db"
    done
    holds "two stops" systemctl stop tidegate@two
    holds "its socket is gone" no test -e /run/tidegate-two
    holds "the others go on" active "tidegate tidegate@second tidegate@third" "active active active"
}

# A mistake is told once, and not tried again every two seconds.
refuses_a_mistake() {
    cp /etc/tidegate/tidegate.toml /root/kept.toml
    echo 'nonsense = 1' >>/etc/tidegate/tidegate.toml
    holds "a mistake is found before the restart" finds_nonsense
    holds "a restart with it fails" no quietly systemctl restart tidegate
    holds "and is over" active tidegate failed
    holds "and says where" logged tidegate 'tidegate.toml:[0-9]*:'
    cp /root/kept.toml /etc/tidegate/tidegate.toml
    holds "it starts when that is mended" systemctl start tidegate
}

# One beside it that does not start may do so with another version.
starts_what_has_failed() {
    echo 'nonsense = 1' >>/etc/tidegate/third.toml
    holds "third fails" no quietly systemctl restart tidegate@third
    holds "and is over" active tidegate@third failed
    sed -i '$d' /etc/tidegate/third.toml
    holds "another version is installed" install_deb /io/new.deb
    holds "third runs again, and two stays as it was" active "tidegate@third tidegate@two" "active inactive"
}

finds_nonsense() { [[ $(tidegate check 2>&1) =~ tidegate\.toml:[0-9]+:.*nonsense ]]; }

is_removed() {
    holds "is removed" quietly dpkg -r tidegate
    holds "runs no more" active tidegate inactive
    holds "nor do those beside it" active "tidegate@second tidegate@two tidegate@third" "inactive inactive inactive"
    holds "its data are kept" test -s "$(find /var/lib/tidegate -maxdepth 1 -name '*.db')"
    holds "its configuration is kept" is "$(md5sum /etc/tidegate/tidegate.toml)" "$config"
    holds "is installed again" install_deb /io/new.deb
    comes "with its ledger" more_than .ledger.landed "$landed"
    holds "what is enabled runs again" active "tidegate@second tidegate@two tidegate@third" "inactive active active"
}

is_purged() {
    # One that failed, one that a person has masked, and a drop-in.
    echo 'nonsense = 1' >>/etc/tidegate/second.toml
    holds "second fails" no quietly systemctl start tidegate@second
    holds "fourth is masked" quietly systemctl mask tidegate@fourth
    mkdir /etc/systemd/system/tidegate@two.service.d
    printf '[Service]\nNice=5\n' >/etc/systemd/system/tidegate@two.service.d/override.conf
    holds "is purged" quietly dpkg -P tidegate
    holds "nothing is left" is "$(find / /run /tmp /var /dev/shm -xdev -path /io -prune -o -name '*tidegate*' -print | sort -u)" ""
    holds "nobody is left" no getent passwd tidegate
    holds "no group is left" no getent group tidegate
    holds "no file is nobody's" is "$(find / /run /tmp /var /dev/shm -xdev -path /io -prune -o \( -nouser -o -nogroup \) -print | sort -u)" ""
    holds "no unit is left" is "$(systemctl list-units --all --plain --no-legend 'tidegate*')" ""
}

systemctl show --property=Version
# The installer writes it, and mmdebstrap does not.
[[ -e /etc/hosts ]] || printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
for part in comes_from_box_to_value installs edits is_examined serves_a_page reloads is_restarted_by_the_watchdog has_instances \
    backlog "survives an_upgrade /io/new.deb" "survives a_downgrade /io/old.deb" drains refuses_a_mistake starts_what_has_failed is_removed is_purged; do
    echo "-- ${part%% /*}"
    $part
done
if ((failed)); then journalctl -b -u tidegate -n 60 --no-pager; fi
echo "$failed" >/io/status
