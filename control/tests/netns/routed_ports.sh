# Can containers have nothing but an address: no network, any gateway, no neighbours to flood, and no address of others?
. "$(dirname "$0")/_init.sh"
. "$(dirname "$0")/_lab.sh"
uplink
addresses leaf swp1 10.9.0.1/24
in_ns leaf ip route add 10.1.1.0/24 via 10.9.0.2
for c in c1 c2; do container $c; done
start_shuntd
doc "routed containers" >"$OUT/block"
. "$OUT/block"
# As a container network plug-in sets a container up: an address alone, and a gateway that nobody has.
for n in 1 2; do
    in_ns c$n ip addr add 10.1.1.$n/32 dev eth0
    in_ns c$n ip -6 addr add 2001:db8:1::$n/128 dev eth0 nodad
    in_ns c$n ip route add 169.254.1.1 dev eth0 scope link
    in_ns c$n ip route add default via 169.254.1.1
    in_ns c$n ip -6 route add default via fe80::1 dev eth0
done
shuntctl add-br fabric -- add-port fabric eth0
shuntctl add-svi fabric fabric address=10.9.0.2/24
shuntctl route add 0.0.0.0/0 via 10.9.0.1

say "each reaches the other, the host and the leaf"
reaches c1 10.1.1.2
reaches c2 10.1.1.1
reaches c1 2001:db8:1::2
reaches c1 10.9.0.2
reaches c1 10.9.0.1
check "with one hop between them" bash -c 'ip netns exec c1 ping -nc1 -W1 10.1.1.2 | grep -q ttl=63'
refute "c1 knows c2's MAC address" bash -c 'ip netns exec c1 ip neigh show | grep -q "$(ip netns exec c2 cat /sys/class/net/eth0/address)"'

say "any gateway will do"
in_ns c2 ip route replace default via 169.254.77.7 dev eth0 onlink
reaches c2 10.1.1.1

say "c1 cannot call itself c2, and broadcasts of one do not reach the other"
in_ns c1 ip addr add 10.1.1.2/32 dev lo
reaches_not c1 -I 10.1.1.2 10.9.0.1
check "dropped with its reason" dropped c1 source_guard 1
in_ns c1 ip addr del 10.1.1.2/32 dev lo
capture_start c2 eth0 arp and ether src "$(in_ns c1 cat /sys/class/net/eth0/address)"
in_ns c1 ip neigh flush all
reaches c1 10.9.0.1
capture_stop
check "c2 has heard none" test "$(packets arp)" = 0

say "the host's routing daemons see them"
check "c1" bash -c 'ip route show 10.1.1.1/32 | grep -q "dev routed"'
shuntctl route del 10.1.1.1/32
refute "c1, after its route went" bash -c 'ip route show 10.1.1.1/32 | grep -q .'
