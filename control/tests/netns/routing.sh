# Does the host route between VLANs, to itself and to a tagged uplink, with the right ICMP at each hop?
#
#   c10 (VLAN 10), d10, c20 (VLAN 20), c40 (VLAN 40, MTU 1400) ── host ── VLAN 30 of the uplink ── leaf ── MTU 1300 ── far
. "$(dirname "$0")/_init.sh"
. "$HERE/_lab.sh"
uplink
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
start_shuntd
shuntctl add-br br0 -- add-port br0 eth0 trunks=30 -- set Port eth0 other_config:uplink=true
svi() { # VLAN: its interface with the addresses that end in 1
    shuntctl add-svi br0 vlan$1 tag=$1 "address=10.0.$1.1/24,2001:db8:$1::1/64"
}
member() { # NAME VLAN NUMBER
    guest host $1 10.0.$2.$3/24 10.0.$2.1 2001:db8:$2::$3/64 2001:db8:$2::1
    shuntctl add-port br0 $1 tag=$2
}
wire() { ip link add "$2" ${MTU:+mtu "$MTU"} type veth peer name "$4" netns "$3" ${MTU:+mtu "$MTU"}; ip link set "$2" up; ip -n "$3" link set "$4" up; }
for vlan in 10 20 30 40; do svi $vlan; done
shuntctl set Interface vlan40 mtu_request=1400
member c10 10 11; member d10 10 12; member c20 20 11; MTU=1400 member c40 40 11
leaf_vlans 30=10.0.30.2/24
namespace far
ip -n leaf link add far type veth peer name eth0 netns far
in_ns leaf ip link set far mtu 1300; in_ns far ip link set eth0 mtu 1300
addresses leaf far 10.0.99.2/24 2001:db8:99::2/64; addresses leaf vlan30 2001:db8:30::2/64
addresses far eth0 10.0.99.11/24 2001:db8:99::11/64
in_ns leaf sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip -n far route add default via 10.0.99.2; ip -n far route add default via 2001:db8:99::2
ip -n leaf route add default via 10.0.30.1; ip -n leaf route add default via 2001:db8:30::1
shuntctl route add 10.0.99.0/24 via 10.0.30.2 -- route add 2001:db8:99::/64 via 2001:db8:30::2

say "between VLANs, to the host, to the leaf and beyond"
for to in 10.0.20.11 2001:db8:20::11 10.0.10.1 10.0.20.1 2001:db8:20::1 10.0.30.2 10.0.99.11 2001:db8:99::11; do reaches c10 $to; done
reaches host 10.0.20.11
reaches far 10.0.10.11
reaches far 2001:db8:20::11
check "within the VLAN no router" hops c10 0 10.0.10.12
check "to another VLAN one" hops c10 1 10.0.20.11
check "in IPv6, too" hops c10 1 2001:db8:20::11
check "to the far network two" hops c10 2 10.0.99.11
for to in 10.0.20.11 2001:db8:20::11; do
    by_workers host transfer c10 c20 $to
    transfer c10 c20 $to -u -b 20M
done
transfer c10 host 10.0.20.1
transfer host c20 10.0.20.11
by_workers host transfer c20 far 10.0.99.11
by_workers host transfer far c20 2001:db8:20::11
reaches c10 -s 4000 10.0.20.11
reaches c10 -s 4000 2001:db8:20::11

say "each hop answers for itself"
route_of() { in_ns c10 traceroute -n -q1 -w2 "$@" | awk 'NR > 1 {printf "%s%s", sep, $2; sep = " "}'; }
for how in '' -I -T; do
    check "traceroute $how to the far network" test "$(route_of $how 10.0.99.11)" = "10.0.10.1 10.0.30.2 10.0.99.11"
    check "traceroute6 $how" test "$(route_of -6 $how 2001:db8:99::11)" = "2001:db8:10::1 2001:db8:30::2 2001:db8:99::11"
done
check "from the other side" test "$(in_ns far traceroute -n -q1 -w2 10.0.20.11 | awk 'NR > 1 {print $2}' | xargs)" = "10.0.99.2 10.0.30.1 10.0.20.11"
check "the gateway itself is no hop" hops c10 0 -t1 10.0.10.1

# answers REGEX PING-ARGUMENTS…: c10 is told that.
answers() { local regex=$1; shift; told() { in_ns c10 ping -n -c1 -W4 "$@" >"$OUT/told" 2>&1; grep -E "$regex" "$OUT/told"; }; check "c10 → $*: $regex" wait_for 10 told "$@"; }
for family in '10.66 16 10.0.10.1' '2001:db8:66: 48 2001:db8:10::1'; do
    read -r net length router <<<"$family"
    to=$([[ $net = *:* ]] && echo "$net:1" || echo "$net.0.1")
    prefix=$([[ $net = *:* ]] && echo "$net:/$length" || echo "$net.0.0/$length")
    ip route add unreachable "$prefix"
    answers "From $router .*(Host Unreachable|No route)" "$to"
    ip route del unreachable "$prefix"; ip route add prohibit "$prefix"
    answers "From $router .*(filtered|prohibited)" "$to"
    ip route del prohibit "$prefix"; ip route add blackhole "$prefix"
    reaches_not c10 "$to"
    refute "a blackhole says anything" eval "in_ns c10 ping -n -c2 -i0.1 -W1 $to | grep From"
    ip route del blackhole "$prefix"
    answers "From $router .*(Net Unreachable|No route)" "$to"
done
answers 'From 10.0.10.1 .*Host Unreachable' 10.0.20.99
answers 'From 2001:db8:10::1 .*Address unreachable' 2001:db8:20::99

say "an MTU step in this router, and one behind the leaf: the sender learns of both"
told_mtu() { answers "From $1 .*mtu( = |=)$2|message too long, mtu=$2" -M do -s "$3" "$4"; } # the second when c10 knows already
told_mtu 10.0.10.1 1400 1472 10.0.40.11
told_mtu 2001:db8:10::1 1400 1452 2001:db8:40::11
told_mtu 10.0.30.2 1300 1472 10.0.99.11
told_mtu 2001:db8:30::2 1300 1452 2001:db8:99::11
path_mtu() { in_ns c10 ip route get "$1" | grep -q "mtu $2"; }
check "c10 has learned 1400" path_mtu 10.0.40.11 1400
check "and 1300" path_mtu 2001:db8:99::11 1300
ip -n c10 route flush cache; ip -n c10 -6 route flush cache
reaches c10 -M dont -s 1472 10.0.40.11
for to in 10.0.40.11 2001:db8:40::11; do by_workers host transfer c10 c40 $to; done
for to in 10.0.99.11 2001:db8:99::11; do by_workers host transfer c10 far $to; done
answers 'bytes from' -M do -s 1372 10.0.40.11
answers 'bytes from' -M do -s 1472 10.0.20.11

say "ARP and neighbour discovery at the edges"
duplicate() { in_ns c10 busybox arping -D -q -c2 -w2 -I eth0 "$1"; } # fails if somebody has it
refute "the gateway lets another have its address" duplicate 10.0.10.1
check "a free one is free" duplicate 10.0.10.77
in_ns d10 sysctl -qw net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.eth0.dad_transmits=1
ip -n d10 addr add 2001:db8:10::1/64 dev eth0
check "IPv6: duplicate address detection finds the gateway" wait_for 5 bash -c "ip -n d10 addr show dev eth0 | grep -q dadfailed"
ip -n d10 addr del 2001:db8:10::1/64 dev eth0
reaches c10 2001:db8:20::11
say "  the first packet waits until the neighbour has answered"
for to in 10.0.20.11 2001:db8:20::11; do
    ip neigh flush dev vlan20
    check "one packet to $to, one answer" in_ns c10 ping -n -c1 -W2 $to
done
say "  another MAC address, another port"
in_ns c20 sysctl -qw net.ipv4.conf.eth0.arp_notify=1 net.ipv6.conf.eth0.ndisc_notify=1
ip -n c20 link set eth0 address 02:00:00:00:20:99
reaches c10 10.0.20.11
reaches c10 2001:db8:20::11
ip -n c20 addr flush dev eth0 scope global
member e20 20 11
reaches e20 10.0.20.1
reaches e20 2001:db8:20::1
reaches c10 10.0.20.11
reaches c10 2001:db8:20::11
check "it is the new one" bash -c "ip neigh show 10.0.20.11 | grep -q $(ip -n e20 -j link show eth0 | jq -r '.[0].address')"
say "  a neighbour that only listens is not forgotten while packets go to it"
for family in ipv4 ipv6; do sysctl -qw net.$family.neigh.vlan20.{base_reachable_time_ms=500,gc_stale_time=1,delay_first_probe_time=1}; done
received() { [ "$(in_ns e20 nstat -asz "$1" | awk '/Udp/ {print $2}')" -gt "$2" ]; }
stream c10 e20 10.0.20.11
wait_for 20 received UdpInDatagrams 3200
stream_stop c10
check "nothing was lost in four seconds, IPv4" streamed c10 'length == $flows and all(.[]; .lost == 0)'
stream c10 e20 2001:db8:20::11
wait_for 20 received Udp6InDatagrams 3200
stream_stop c10
check "IPv6" streamed c10 'length == $flows and all(.[]; .lost == 0)'

say "  not routed: broadcasts of a network, link-local addresses, addresses of nowhere"
reaches_not c10 -b 10.0.20.255
reaches_not c10 "$(ip -n e20 -6 -o addr show dev eth0 scope link | awk '{sub("/.*", "", $4); print $4}')%eth0"
check "record route goes the slow way and comes back" bash -c "ip netns exec c10 ping -n -c1 -W2 -R 10.0.20.11 | grep -q 10.0.20.1"

say "a scan of a /16 fills nothing and harms nobody"
ip addr add 10.50.0.1/16 dev vlan20
limit=$(sysctl -n net.ipv4.neigh.default.gc_thresh3 2>/dev/null || echo 1024)
to_kernel() { nstat -asz IpInReceives Ip6InReceives | awk '/Ip/ {sum += $2} END {print sum}'; }
stream c10 c40 10.0.40.11
before=$(to_kernel) begun=$SECONDS
in_ns d10 "$HERE/stream.py" scan 10.50.0.0/16 9 & SCAN=$!
in_ns d10 "$HERE/stream.py" scan 2001:db8:20:0:1::/112 9 & SCAN6=$!
most=0
while kill -0 $SCAN 2>/dev/null || kill -0 $SCAN6 2>/dev/null; do
    now=$(ip neigh show | wc -l)
    [ "$now" -le $most ] || most=$now
done
wait $SCAN $SCAN6 || true
got=$(($(to_kernel) - before)) took=$((SECONDS - begun + 1))
stream_stop c10
# 250 a second by a port, as many at once at first, and what the kernel says and hears itself.
check "of 131072 packets the kernel got $got in $took s" test $got -le $((250 * (took + 1) + 1000))
check "the rest has its reason" dropped d10 exceptions_limited 5000
check "the others hardly noticed" streamed c10 'length == $flows and ([.[].lost] | add) * 20 < ([.[].received] | add)'
check "the neighbour table stayed below its limits ($most entries)" test $most -le $((2 * limit))
reaches c10 10.0.20.11
reaches d10 2001:db8:20::11
