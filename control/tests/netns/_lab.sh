# How does a story get a network: hosts with shuntd, switches with FRR, wires between them? Sourced after `_init.sh`.
#
# Each machine is a network namespace; its daemons' files are named for it. What a machine is told comes from
# docs/routing.md where it stands there: `doc NAME` is the block behind `<!-- story: NAME -->`. shellcheck shell=bash
mount -t tmpfs tmpfs /etc/frr
mkdir -p /run/frr
chmod 755 /etc/frr
chown frr:frr /etc/frr /run/frr
HOSTS=()
# What a failed story leaves behind, beside what every one does.
lab_state() {
    local m; for m in /run/frr/*/; do
        m=$(basename "$m"); { vty "$m" 'show bgp summary'; vty "$m" 'show bfd peers brief'; ip -n "$m" addr; ip -n "$m" route; ip -n "$m" -6 route; } >"$OUT/$m.state" 2>&1 || true
    done
    for m in /run/*/bird.ctl; do [ ! -S "$m" ] || birdc -s "$m" show protocols all >"$OUT/bird.state" 2>&1 || true; done
    for m in "${HOSTS[@]#*:}"; do on "$m" shuntctl show >>"$OUT/$m.state" 2>&1 || true; done
}
trap 's=$?; [ $s = 0 ] || lab_state; finish $s' EXIT

doc() { # NAME
    awk -v mark="<!-- story: $1 -->" '$0 == mark {found = 1; next} found && /^```/ {if (inside) exit; inside = 1; next} inside' \
        "$ROOT/docs/routing.md" | grep . || fail "docs/routing.md has no block $1"
}
# on HOST COMMAND…: shuntctl speaks to the host's own daemon.
on() { local host=$1; shift; SHUNT_DB=/run/$host/db.sock in_ns "$host" "$@"; }
# doc_on HOST NAME [SED-SCRIPT]: the block's commands, as they are written but for what sed changes.
doc_on() { doc "$2" | sed "${3:-}" >"$OUT/$1-$2"; check "$1: the commands '$2' of docs/routing.md" on "$1" bash -e -x "$OUT/$1-$2"; }

# wire A DEVICE-OF-A B DEVICE-OF-B
wire() { ip link add "$2" netns "$1" ${MTU:+mtu "$MTU"} type veth peer name "$4" netns "$3" ${MTU:+mtu "$MTU"}; ip -n "$1" link set "$2" up; ip -n "$3" link set "$4" up; }

# shunt_host NAME…: machines with a shuntd each.
shunt_host() {
    local host; for host; do
        namespace "$host"
        mkdir -p "/run/$host" "/var/lib/$host"
        start_on "$host"
    done
    for host; do wait_for 20 on "$host" shuntctl --timeout=2 version || fail "shuntd of $host does not start"; done
}
start_on() {
    ip netns exec "$1" shuntd ${SHUNTD_ARGS:-} --socket "/run/$1/db.sock" --state "/var/lib/$1/conf.db" >>"$OUT/shuntd.log" 2>&1 &
    HOSTS+=("$!:$1"); SHUNTD_PID=$!
}
crash() { # HOST: its shuntd is killed, and started again
    local i; for i in "${!HOSTS[@]}"; do
        [ "${HOSTS[i]#*:}" = "$1" ] || continue
        kill -KILL "${HOSTS[i]%%:*}"; wait "${HOSTS[i]%%:*}" || true
        unset "HOSTS[$i]"
    done
    start_on "$1"
}
hosts_live() { local host; for host in "${HOSTS[@]}"; do kill -0 "${host%%:*}" || fail "shuntd of ${host#*:} died"; done; }

# guest HOST NAME ADDRESS GATEWAY [ADDRESS GATEWAY]: a namespace NAME behind the host's device NAME.
guest() {
    local host=$1 name=$2; shift 2
    namespace "$name"
    wire "$host" "$name" "$name" eth0
    while [ $# -gt 1 ]; do
        ip -n "$name" addr add "$1" dev eth0
        ip -n "$name" route add default via "$2"
        shift 2
    done
}

# frr MACHINE [DAEMON…] <frr.conf: zebra with bgpd and bfdd, or with others.
FRR_DAEMONS=(zebra bgpd bfdd)
frr() {
    local d; [ $# = 1 ] || FRR_DAEMONS=(zebra "${@:2}"); rm -rf "/etc/frr/$1" "/run/frr/$1"; mkdir -p "/etc/frr/$1" "/run/frr/$1"
    { cat; printf 'log file %s\n' "$OUT/$1.frr"; } >"/etc/frr/$1/frr.conf"
    touch "/etc/frr/$1/vtysh.conf" "$OUT/$1.frr"
    chown -R frr:frr "/etc/frr/$1" "/run/frr/$1" "$OUT/$1.frr"
    for d in "${FRR_DAEMONS[@]}"; do
        ip netns exec "$1" "/usr/lib/frr/$d" -N "$1" -P 0 >>"$OUT/$1.frr-start" 2>&1 &
        wait_for 10 test -S "/run/frr/$1/$d.vty"
    done
    wait_for 10 vty "$1" 'show version'
    in_ns "$1" vtysh -N "$1" -b >>"$OUT/$1.frr-start" 2>&1 || fail "FRR of $1 does not like its frr.conf: $(cat "$OUT/$1.frr-start")"
}
vty() { in_ns "$1" vtysh -N "$1" -c "$2"; } # MACHINE COMMAND
frr_kill() { # MACHINE: as when the power goes
    local d; for d in zebra bgpd bfdd; do kill -KILL "$(cat "/run/frr/$1/$d.pid")"; done
}
# established MACHINE N: it has N sessions, and all of them are up.
established() { vty "$1" 'show bgp summary json' | jq -e --argjson n "$2" '[.[].peers? // {} | to_entries[]] | unique_by(.key) | length == $n and all(.value.state == "Established")'; }
# has_route MACHINE PREFIX [N]: the kernel has it, over N next hops.
has_route() {
    local f=-4; [[ $2 != *:* ]] || f=-6
    [ "$(ip "$f" -n "$1" -j route show "$2" | jq '[.[] | .nexthops // [.] | length] | add // 0')" = "${3:-1}" ]
}

bird_host() { # HOST <bird.conf
    cat >"/run/$1/bird.conf"
    ip netns exec "$1" bird -f -c "/run/$1/bird.conf" -s "/run/$1/bird.ctl" -P "/run/$1/bird.pid" >"$OUT/$1.bird" 2>&1 &
    wait_for 10 birdc -s "/run/$1/bird.ctl" show status || fail "BIRD of $1 does not start: $(cat "$OUT/$1.bird")"
}

# sessions MACHINE: how often each of its sessions came up and went, and the updates that crossed it.
sessions() {
    vty "$1" 'show bgp neighbors json' | jq -rS 'to_entries[] | "\(.key): up \(.value.connectionsEstablished), down \(.value.connectionsDropped), updates \(.value.messageStats | [.updatesSent, .updatesRecv])"'
}
hops() { local answer; answer=$(one_ping "$1" "${@:3}") && [[ $answer == *"ttl=$((64 - $2)) "* ]]; } # NAMESPACE N [OPTIONS…] ADDRESS: the answer came over N routers

# by_workers MACHINE COMMAND…: while the command runs, all but the first packets of each flow are forwarded by the workers, not by the kernel.
by_workers() {
    local machine=$1 before; shift
    before=$(kernel_forwarded "$machine")
    "$@"
    local more=$(($(kernel_forwarded "$machine") - before))
    [ $more -lt 100 ] || fail "the kernel of $machine forwarded $more packets"
    ok "the workers of $machine forwarded that, but for $more packets"
}
kernel_forwarded() { in_ns "$1" nstat -asz IpForwDatagrams Ip6OutForwDatagrams | awk '/Ip/ {sum += $2} END {print sum}'; }

# stream FROM TO ADDRESS: paced flows until stream_stop FROM, which leaves what arrived in $OUT/FROM.stream and says it.
FLOWS=16 INTERVAL_MS=20
stream() {
    ip netns exec "$2" "$HERE/stream.py" receive 7000 >"$OUT/$1.stream" & STREAMS[$1]=$!
    wait_for 5 grep -q listening "$OUT/$1.stream"
    ip netns exec "$1" "$HERE/stream.py" send "$3" 7000 $FLOWS $INTERVAL_MS & SENDERS[$1]=$!
}
declare -A STREAMS SENDERS
stream_stop() {
    kill "${SENDERS[$1]}"; wait "${SENDERS[$1]}" || true
    kill "${STREAMS[$1]}"; wait "${STREAMS[$1]}" || true
    sed -i 1d "$OUT/$1.stream"
    [ -s "$OUT/$1.stream" ] || fail "no stream from $1"
    ok "$1: $(jq -r '"\(length) flows, \([.[].lost] | add) of \([.[] | .lost + .received] | add) packets lost, in \([.[] | select(.lost > 0)] | length) flows; longest gap \([.[].gap_ms] | max) ms"' "$OUT/$1.stream")"
}
streamed() { jq -e --argjson flows $FLOWS "$2" "$OUT/$1.stream"; } # FROM JQ-CONDITION
