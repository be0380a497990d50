# Do routes that OSPF learns over an SVI carry packets in the workers, and do they go with the neighbour?
. "$(dirname "$0")/_init.sh"
. "$HERE/_lab.sh"
uplink
addresses leaf swp1 10.9.0.1/24
namespace far
ip -n leaf link add far type veth peer name eth0 netns far
addresses leaf far 10.0.99.1/24; addresses far eth0 10.0.99.11/24
ip -n far route add default via 10.0.99.1
container c10 10.0.10.11/24
in_ns c10 ip route add default via 10.0.10.1
for ns in host leaf; do in_ns $ns sysctl -qw net.ipv4.ip_forward=1; done
start_shuntd
shuntctl add-br up0 -- add-port up0 eth0 -- set Port eth0 other_config:uplink=true -- add-svi up0 up0 address=10.9.0.2/24
shuntctl add-br br0 -- add-port br0 c10 tag=10 -- add-svi br0 vlan10 tag=10 address=10.0.10.1/24
ip netns attach gw $$
ospf() { # MACHINE ROUTER-ID INTERFACE
    frr $1 ospfd <<END
frr defaults datacenter
hostname $1
interface $3
 ip ospf network point-to-point
 ip ospf hello-interval 1
 ip ospf dead-interval 4
router ospf
 ospf router-id $2
 timers throttle spf 10 100 500
 network 10.0.0.0/8 area 0
 passive-interface vlan10
 passive-interface far
END
}
ospf gw 10.255.0.1 up0
ospf leaf 10.255.0.2 swp1
full() { vty gw 'show ip ospf neighbor json' | grep -q '"Full'; }
check "the host and the leaf are neighbours" wait_for 30 full
check "the host has the leaf's network" wait_for 20 has_route gw 10.0.99.0/24
check "the leaf has the container's" wait_for 20 has_route leaf 10.0.10.0/24
reaches c10 10.0.99.11
by_workers host transfer c10 far 10.0.99.11
check "it is OSPF's" bash -c 'shuntctl route show 10.0.99.0/24 | grep -q ospf'
say "the leaf's daemon goes, and says so"
kill "$(cat /run/frr/leaf/ospfd.pid)"
check "the route goes with it" wait_for 20 has_route gw 10.0.99.0/24 0
reaches_not c10 10.0.99.11
for d in zebra ospfd; do kill "$(cat "/run/frr/gw/$d.pid")"; done
kill "$(cat /run/frr/leaf/zebra.pid)"
