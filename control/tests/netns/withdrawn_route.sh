# How long are packets still forwarded by a route that was withdrawn?
. "$(dirname "$0")/_init.sh"
. "$HERE/_lab.sh"
container c10 192.168.10.2/24 2001:db8:10::2/64
container far 192.168.20.9/24 2001:db8:20::9/64 10.7.0.1/16 2001:db8:7::1/48
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
start_shuntd
shuntctl add-br br0 -- add-port br0 c10 tag=10 -- add-port br0 far tag=20 \
    -- add-svi br0 vlan10 tag=10 address=192.168.10.1/24,2001:db8:10::1/64 \
    -- add-svi br0 vlan20 tag=20 address=192.168.20.1/24,2001:db8:20::1/64
in_ns c10 ip route add default via 192.168.10.1; in_ns c10 ip -6 route add default via 2001:db8:10::1
in_ns far ip route add default via 192.168.20.1; in_ns far ip -6 route add default via 2001:db8:20::1
FLOWS=1 INTERVAL_MS=1
by_workers_now() { shuntctl forward trace "$1" "$2" | grep -qx 'forwarded by the workers'; }
counted() { in_ns "$1" nstat -asz "$2" | awk -v name="$2" '$1 == name {print $2}'; }
more() { [ "$(counted "$1" "$2")" -gt "$3" ]; }
# withdraw FROM TO ROUTE… : how many ms after the command began the last packet was sent that still arrived.
withdraw() {
    local from=$1 to=$2 v6= lost=IpExtInNoRoutes begun before; shift 2
    [[ $to != *:* ]] || { v6=6; lost=Ip6InNoRoutes; }
    ip route add "$@"
    reaches c10 "$to"
    check "the workers forward" wait_for 5 by_workers_now "$from" "$to"
    stream c10 far "$to"
    wait_for 10 more far Udp${v6}InDatagrams $(($(counted far Udp${v6}InDatagrams) + 200))
    before=$(counted host $lost)
    begun=$EPOCHREALTIME
    ip route del "$@"
    # They have begun to come to the kernel, which has no route for them: nothing is forwarded any more.
    wait_for 10 more host $lost "$before"
    stream_stop c10
    took=$(jq --argjson begun "$begun" '[(.[].last_sent - $begun) * 1000, 0] | max | ceil' "$OUT/c10.stream")
}
for route in "192.168.10.2 10.7.0.1 10.7.0.0/16 via 192.168.20.9" "2001:db8:10::2 2001:db8:7::1 2001:db8:7::/48 via 2001:db8:20::9"; do
    best=
    for try in 1 2 3 4 5; do
        # shellcheck disable=SC2086
        withdraw $route
        ok "try $try: $took ms"
        if [ -z "$best" ] || [ "$took" -lt "$best" ]; then best=$took; fi
    done
    check "${route#* * }: gone within 100 ms ($best ms)" test "$best" -le 100
done
