# Can containers have nothing but an address: no network, any gateway, no neighbours to flood, and no address of others?
. "$(dirname "$0")/_init.sh"
. "$(dirname "$0")/_lab.sh"
uplink
addresses leaf swp1 10.9.0.1/24 2001:db8:9::1/64
in_ns leaf ip route add 10.1.1.0/24 via 10.9.0.2
in_ns leaf ip route add 2001:db8:1::/64 via 2001:db8:9::2
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
shuntctl add-svi fabric fabric address=10.9.0.2/24,2001:db8:9::2/64
shuntctl route add 0.0.0.0/0 via 10.9.0.1 -- route add ::/0 via 2001:db8:9::1

say "each reaches the other, the host and the leaf"
reaches c1 10.1.1.2
reaches c2 10.1.1.1
reaches c1 2001:db8:1::2
reaches c1 10.9.0.2
reaches c1 10.9.0.1
reaches c1 2001:db8:9::1
reaches host 10.1.1.1
reaches host 2001:db8:1::2
check "with one hop between them" bash -c 'ip netns exec c1 ping -nc1 -W1 10.1.1.2 | grep -q ttl=63'
refute "c1 knows c2's MAC address" bash -c 'ip netns exec c1 ip neigh show | grep -q "$(ip netns exec c2 cat /sys/class/net/eth0/address)"'

check "interface brief says what they are" bash -c 'shuntctl interface brief | grep -qE "^c1 +-- +veth +routed +up +none .* 10.1.1.1,2001:db8:1::1$"'
check "and what serves them" bash -c 'shuntctl interface brief | grep -qE "^hosts +-- +svi +routed +up +none .*169.254.1.1/32"'

say "any gateway will do"
in_ns c2 ip route replace default via 169.254.77.7 dev eth0 onlink
reaches c2 10.1.1.1
for gateway in fe80::77:7 2001:db8:77::7; do
    in_ns c2 ip -6 route replace default via $gateway dev eth0 onlink
    reaches c2 2001:db8:1::1
    reaches c2 2001:db8:9::1
done
check "it is the router's MAC address" bash -c 'ip -n c2 -6 neigh show 2001:db8:77::7 | grep -q "$(cat /sys/class/net/hosts/address) router"'
shuntctl route del ::/0
in_ns c2 ip -6 neigh flush all
refute "one that leads nowhere is answered for" in_ns c2 ping -n -c1 -W2 2001:db8:9::1
in_ns c2 ip -6 route replace default via fe80::1 dev eth0
in_ns c2 sysctl -qw net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.eth0.dad_transmits=1
in_ns c2 ip -6 addr del 2001:db8:1::2/128 dev eth0
in_ns c2 ip -6 addr add 2001:db8:1::2/128 dev eth0
settled() { in_ns c2 ip -6 addr show dev eth0; [ -z "$(in_ns c2 ip -6 addr show dev eth0 tentative)" ] && [ -z "$(in_ns c2 ip -6 addr show dev eth0 dadfailed)" ]; }
check "nobody answers for its own address" wait_for 5 settled
reaches c2 2001:db8:1::1

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

say "a neighbour's MAC address leads nowhere"
in_ns c1 ip neigh replace 10.1.1.2 lladdr "$(in_ns c2 cat /sys/class/net/eth0/address)" dev eth0 nud permanent
in_ns c1 ip route add 10.1.1.2 dev eth0 scope link
reaches_not c1 10.1.1.2
check "dropped with its reason" dropped c1 protected 1
in_ns c1 ip route del 10.1.1.2 dev eth0

say "FRR announces them, redistributing connected routes, and the kernel's of IPv6, and what comes later, and what goes no more"
ip netns attach gw $$
frr gw <<'END'
hostname gw
router bgp 65001
 bgp router-id 10.255.0.1
 address-family ipv4 unicast
  redistribute connected
 exit-address-family
 address-family ipv6 unicast
  redistribute kernel
 exit-address-family
END
announced() { vty gw "show bgp $1 unicast json" | jq -e --arg p "$2" '.routes | has($p)'; }
check "IPv4" wait_for 5 announced ipv4 10.1.1.1/32
check "IPv6" wait_for 5 announced ipv6 2001:db8:1::2/128
shuntctl set Interface c2 options:host-addresses=10.1.1.2/32,10.1.1.22
check "another address" wait_for 5 announced ipv4 10.1.1.22/32
not_announced() { ! announced "$@"; }
check "not the one that was removed" wait_for 5 not_announced ipv6 2001:db8:1::2/128
check "c1's are still there" announced ipv6 2001:db8:1::1/128

say "what makes no sense is said, and harms nobody"
bad() { shuntctl set Interface c2 options:host-addresses="$1" && fail "taken: $1"; check "$1: $2" has_error c2 "$2"; }
bad 10.1.1.1 '10.1.1.1 belongs to c1'
bad 10.1.2.0/24 'is a network: give single addresses'
bad 224.0.0.1 'multicast'
bad 10.1.1.3,10.1.1.3 'there twice'
bad 10.9.0.2 '10.9.0.2 belongs to fabric'
refute "it has a route" bash -c 'ip route show dev hosts | grep -q 10.1.1.2'
reaches c1 10.9.0.1
shuntctl set Interface c2 options:host-addresses=10.1.1.2 -- set Port c2 tag=7 && fail "taken: a VLAN without an SVI"
check "a VLAN without an SVI" has_error c2 'VLAN 7 of hosts has no SVI'
shuntctl clear Port c2 tag
reaches c2 10.1.1.1

say "with the daemon killed and started, and when the last port goes"
stop_shuntd -KILL
start_shuntd
reaches c1 10.1.1.2
shuntctl del-port c1 -- del-port c2
refute "an address is left" bash -c 'ip addr show dev hosts | grep -qE "peer|169.254"'
check "not announced" wait_for 5 not_announced ipv4 10.1.1.1/32
for d in zebra bgpd bfdd; do kill "$(cat "/run/frr/gw/$d.pid")"; done
