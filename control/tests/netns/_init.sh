# What does every namespace story start from? A world of its own, and words to tell the story with.
#
# A world is private mount, network and process namespaces (made by `run`): `host` is its own network namespace, where
# shuntd lives with its default paths, and all that a story makes is gone with it. shellcheck shell=bash
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../../.." && pwd)
if [ -z "${SHUNT_WORLD:-}" ]; then exec "$HERE/run" "$0"; fi

BIN=${SHUNT_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/release}
OUT=${SHUNT_OUT:-$(mktemp -d)} # logs and captures
PATH=$BIN:$PATH
export LC_ALL=C
frames() { "$HERE/frames.py" "$@"; }

world() {
    mount --make-rprivate /
    mkdir -p "$OUT" && mount -t tmpfs tmpfs /var/lib
    mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/cgroup
    # sysfs shows the network namespace it was mounted in; the control groups stay as they were.
    [ -d /sys/fs/cgroup ] && mount --rbind /sys/fs/cgroup /run/cgroup
    mount -t sysfs sysfs /sys
    mount --rbind /run/cgroup /sys/fs/cgroup
    mount -t bpf bpf /sys/fs/bpf
    ip link set lo up
    trap finish EXIT
}

# --- what a story says -------------------------------------------------------------------------------------------

say() { printf '%s\n' "— $*"; }
ok() { printf '  ✓ %s\n' "$*"; }
fail() { printf '  ✗ %s\n' "$*"; exit 1; }

# check TEXT COMMAND…: the command must succeed. refute: it must fail, TEXT says what must not be.
check() { local text=$1; shift; if "$@" >"$OUT/check" 2>&1; then ok "$text"; else cat "$OUT/check"; fail "$text [$*]"; fi; }
refute() { local text=$1; shift; if "$@" >"$OUT/check" 2>&1; then cat "$OUT/check"; fail "still: $text [$*]"; else ok "not: $text"; fi; }

# wait_for SECONDS COMMAND…: until the command succeeds; fails after so many seconds.
wait_for() {
    local deadline=$((SECONDS + $1)); shift
    until "$@" >"$OUT/wait" 2>&1; do
        if [ $SECONDS -gt $deadline ]; then cat "$OUT/wait"; echo "waited in vain for: $*"; return 1; fi
        sleep 0.05
    done
}

# refused STATUS REGEX COMMAND…: the exit status matches the first, and stderr says that (all on one line).
refused() {
    local want=$1 regex=$2 got=0; shift 2
    "$@" >"$OUT/stdout" 2>"$OUT/stderr" || got=$?
    [[ $got =~ ^$want$ ]] || fail "status $got instead of $want: $* ($(head -3 "$OUT/stderr"))"
    grep -qE -- "$regex" "$OUT/stderr" || fail "$*: stderr does not say /$regex/ but: $(head -3 "$OUT/stderr")"
    ok "$* → $want: $(head -1 "$OUT/stderr")"
}

# probes <<table: see frames.py.
probes() { frames probe || fail "frames went the wrong way"; }

# --- the daemon --------------------------------------------------------------------------------------------------

SHUNTD_PID=
# start_shuntd [OPTIONS…]; SHUNTD_ARGS="--cores 0,1" run … gives all stories further ones.
start_shuntd() {
    shuntd ${SHUNTD_ARGS:-} "$@" >>"$OUT/shuntd.log" 2>&1 & SHUNTD_PID=$!
    wait_for 20 serving_or_dead
    kill -0 "$SHUNTD_PID" 2>/dev/null || fail "shuntd does not start: $(tail -3 "$OUT/shuntd.log")"
}
serving_or_dead() { shuntctl --timeout=2 version || ! kill -0 "$SHUNTD_PID"; }
stop_shuntd() { kill "${1:--TERM}" "$SHUNTD_PID"; wait "$SHUNTD_PID" || true; SHUNTD_PID=; }

# counter PORT JQ-PATH: from port/stats, e.g. `counter v1 .drops.hairpin`; 0 if it is not there.
counter() { shuntctl --format=json port/stats "$1" | jq -r ".\"$1\"$2 // 0"; }
# dropped PORT REASON N: the port has dropped at least N for that reason.
dropped() { [ "$(counter "$1" ".drops.$2")" -ge "$3" ]; }
# learned BRIDGE MAC VLAN [PORT]
learned() { shuntctl --format=json fdb/show "$1" | jq -e --arg m "$2" --argjson v "$3" --arg p "${4:-}" \
    'any(.[]; .mac == $m and .vlan == $v and ($p == "" or .port == $p))'; }
column() { shuntctl get Interface "$1" "$2" | tr -d '"'; }
has_error() { ! no_error "$1" && [[ $(column "$1" error) =~ ${2:-.} ]]; } # PORT [REGEX]
no_error() { [ "$(column "$1" error)" = "[]" ]; }
has_xdp() { ip -d link show "$1" | grep -q 'prog/xdp'; }

# --- the scene ---------------------------------------------------------------------------------------------------

in_ns() { local ns=$1; shift; if [ "$ns" = host ]; then "$@"; else ip netns exec "$ns" "$@"; fi; }

namespace() {
    ip netns add "$1"
    ip -n "$1" link set lo up
    in_ns "$1" sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0
}

# container NAME [ADDRESS…]: a namespace with `eth0`; its other end is the host's device NAME. MTU=…, QUEUES=… apply to both.
container() {
    local name=$1; shift
    namespace "$name"
    local queues=(${QUEUES:+numtxqueues "$QUEUES" numrxqueues "$QUEUES"})
    ip link add "$name" ${MTU:+mtu "$MTU"} "${queues[@]}" type veth peer name eth0 netns "$name" ${MTU:+mtu "$MTU"} "${queues[@]}"
    addresses "$name" eth0 "$@"
    ip link set "$name" up
}
addresses() { # NAMESPACE DEVICE [ADDRESS…]: and up
    local ns=$1 dev=$2; shift 2
    in_ns "$ns" ip link set "$dev" up
    local a; for a in "$@"; do in_ns "$ns" ip addr add "$a" dev "$dev"; done
}
# uplink: the host's `eth0`; at the other end of the wire is `swp1` in the namespace `leaf`.
uplink() {
    namespace leaf
    ip link add eth0 ${MTU:+mtu "$MTU"} type veth peer name swp1 netns leaf ${MTU:+mtu "$MTU"}
    ip link set eth0 up
    in_ns leaf ip link set swp1 up
}
# leaf_vlans VID=ADDRESS…: the leaf has these addresses in these VLANs, tagged on the wire (devices vlanVID).
leaf_vlans() {
    local v; ip netns exec leaf "$HERE/frames.py" leaf swp1 "${@%%=*}" >>"$OUT/leaf.log" 2>&1 &
    for v; do
        wait_for 5 in_ns leaf ip link show "vlan${v%%=*}"
        in_ns leaf ip link set "vlan${v%%=*}" mtu "${MTU:-1500}"
        addresses leaf "vlan${v%%=*}" "${v#*=}"
    done
}

# --- traffic -----------------------------------------------------------------------------------------------------

one_ping() { in_ns "$1" ping -n -c1 -W1 "${@:2}"; }
can_ping() { wait_for 5 one_ping "$@"; } # NAMESPACE [OPTIONS…] ADDRESS
reaches() { check "$1 reaches ${*:2}" can_ping "$@"; }
reaches_not() { refute "$1 reaches ${*:2}" in_ns "$1" ping -n -c3 -i0.1 -W1 "${@:2}"; }

listening() { in_ns "$1" ss -Hltn "sport = :$2" | grep -q .; }
# transfer FROM TO ADDRESS [IPERF3-OPTIONS…]: a second of iperf3; prints the rate, fails if nothing arrived.
transfer() {
    local from=$1 to=$2 address=$3; shift 3
    in_ns "$to" iperf3 -s -1 >"$OUT/iperf3-server" 2>&1 & local server=$!
    wait_for 5 listening "$to" 5201
    in_ns "$from" timeout 20 iperf3 -c "$address" -t1 -J "$@" >"$OUT/iperf3" 2>&1 ||
        fail "$from → $to $address ${*:-TCP}: $(jq -r .error "$OUT/iperf3")"
    wait $server
    local rate; rate=$(jq '(.end.sum_received // .end.sum).bits_per_second / 1e6 | floor' "$OUT/iperf3")
    [ "$rate" -gt 0 ] || fail "$from → $to $address ${*:-TCP}: nothing arrived"
    ok "$from → $to $address ${*:-TCP}: $rate Mbit/s"
}

# capture_start NAMESPACE DEVICE [FILTER…]: received frames only, into $OUT/wire.pcap until capture_stop.
capture_start() {
    local ns=$1 dev=$2; shift 2
    ip netns exec "$ns" tcpdump -Z root -i "$dev" -Q in -U --immediate-mode -s 0 -B 16384 -w "$OUT/wire.pcap" "$@" 2>"$OUT/tcpdump.log" & TCPDUMP=$!
    wait_for 10 grep -q listening "$OUT/tcpdump.log"
}
capture_stop() { # once nothing more comes in
    local size=-1
    until [ "$size" = "$(stat -c %s "$OUT/wire.pcap")" ]; do size=$(stat -c %s "$OUT/wire.pcap"); sleep 0.2; done
    kill -TERM $TCPDUMP; wait $TCPDUMP || true
}
# packets FILTER: how many packets of the capture match, with all checksums verified.
packets() {
    tshark -r "$OUT/wire.pcap" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE -Y "$1" 2>/dev/null | wc -l
}

finish() {
    local status=${1:-$?}
    trap - EXIT
    if [ $status != 0 ]; then
        if [ -n "$SHUNTD_PID" ] && kill -0 "$SHUNTD_PID" 2>/dev/null; then
            { shuntctl show; shuntctl list Interface; shuntctl port/stats; } >"$OUT/state" 2>&1 || true
        fi
        ip -d link >"$OUT/links" 2>&1 || true
    elif [ -n "$SHUNTD_PID" ]; then
        kill -0 "$SHUNTD_PID" 2>/dev/null || { echo "  ✗ shuntd died on the way"; exit 1; }
        if grep -qE 'panicked|assertion' "$OUT/shuntd.log"; then echo "  ✗ shuntd panicked"; exit 1; fi
    fi
    exit $status
}
world
