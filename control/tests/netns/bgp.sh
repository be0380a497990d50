# Do two hosts with shunt, one with FRR and one with BIRD, reach each other's containers over two leaves and two spines, and what does a leaf's death cost?
. "$(dirname "$0")/_init.sh"
. "$HERE/_lab.sh"
. "$HERE/_fabric.sh"
shunt_host h1 h2
wires numbered
for h in 1 2; do
    host_ports $h
    doc_on h$h "uplink addresses" "$(for_host $h)"
done
fabric numbered
host_conf 1 "frr numbered" | frr h1
host_conf 2 bird | bird_host h2
bird_established() { [ "$(birdc -s /run/h2/bird.ctl show protocols | grep -c 'BGP.*Established')" = 2 ]; }
both_up() {
    check "both sessions of h1 are up, with FRR" wait_for 30 established h1 2
    check "both sessions of h2 are up, with BIRD" wait_for 30 bird_established
}
both_up
check "h1 has two ways to h2's containers" wait_for 20 has_route h1 10.2.10.0/24 2
check "and h2 to h1's" wait_for 20 has_route h2 10.1.10.0/24 2
reaches c1 10.2.10.11
check "over three routers: h1, a leaf, h2" hops c1 3 10.2.10.11
check "from one VLAN to another of the other host" hops c1 3 10.2.20.11
by_workers h1 transfer c1 c2 10.2.10.11

say "what the route map does not name stays at home"
on h1 shuntctl add-svi br0 vlan30 tag=30 address=10.1.99.1/24
guest h1 private 10.1.99.11/24 10.1.99.1
on h1 shuntctl add-port br0 private tag=30
reaches private 10.1.10.11
announced() { vty h1 'show bgp ipv4 unicast neighbors 10.0.11.0 advertised-routes json' | jq -r '.advertisedRoutes | keys[]' | xargs; }
check "h1 announces its two networks and nothing else" test "$(announced)" = "10.1.10.0/24 10.1.20.0/24"
check "no leaf knows of the third" eval '! has_route leaf1 10.1.99.0/24 && ! has_route leaf2 10.1.99.0/24'
reaches_not private 10.2.10.11

say "links fail crosswise: h1 is left with leaf1, h2 with leaf2"
ip -n leaf1 link set h2 down; ip -n leaf2 link set h1 down
check "over five routers: h1, leaf1, a spine, leaf2, h2" wait_for 15 hops c1 5 10.2.10.11
ip -n leaf1 link set h2 up; ip -n leaf2 link set h1 up
check "back to three" wait_for 30 hops c1 3 10.2.10.11
both_up
check "two ways again" wait_for 20 has_route h1 10.2.10.0/24 2
check "here too" wait_for 20 has_route h2 10.1.10.0/24 2

say "leaf1 dies under traffic: BFD notices after 3 × 300 ms, the hold timer would after 9 s"
stream c1 c2 10.2.10.11; stream c2 c1 10.1.10.11
flowing() { [ "$(in_ns c1 nstat -asz UdpInDatagrams | awk '/Udp/ {print $2}')" -gt "$1" ]; }
wait_for 10 flowing 1000
for d in h1 h2 spine1 spine2; do ip -n leaf1 link set $d down; done
frr_kill leaf1
check "h1 has one way left" wait_for 20 has_route h1 10.2.10.0/24 1
check "and h2" wait_for 20 has_route h2 10.1.10.0/24 1
check "c1 reaches c2" can_ping c1 10.2.10.11
for c in c1 c2; do
    stream_stop $c
    check "all flows got over it within the hold time" streamed $c 'length == $flows and all(.[]; .gap_ms < 9000)'
    check "some went through leaf1 and lost packets, those through leaf2 lost none" streamed $c 'any(.[]; .lost > 0) and any(.[]; .lost == 0)'
done

say "it comes back under traffic"
stream c1 c2 10.2.10.11; stream c2 c1 10.1.10.11
for d in h1 h2 spine1 spine2; do ip -n leaf1 link set $d up; done
leaf 1 numbered
check "h1 has two ways again" wait_for 30 has_route h1 10.2.10.0/24 2
check "and h2" wait_for 30 has_route h2 10.1.10.0/24 2
check "c1 reaches c2" can_ping c1 10.2.10.11
for c in c1 c2; do
    stream_stop $c
    check "no flow stood still longer than the hold time" streamed $c 'length == $flows and all(.[]; .gap_ms < 9000)'
done

say "shuntd of h1 is killed under its sessions and under traffic, and started again"
stream c1 c2 10.2.10.11
wait_for 10 flowing 1000
crash h1
both_up
check "h1 has two ways" wait_for 30 has_route h1 10.2.10.0/24 2
check "and h2" wait_for 30 has_route h2 10.1.10.0/24 2
check "c1 reaches c2" can_ping c1 10.2.10.11
stream_stop c1
check "no flow stood still longer than the hold time" streamed c1 'length == $flows and all(.[]; .gap_ms < 9000)'
hosts_live
