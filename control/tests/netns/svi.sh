# Is an SVI the gateway of its VLAN: for both families, with routes of the host and of its own, in VRFs, after a crash?
. "$(dirname "$0")/_init.sh"
. "$(dirname "$0")/_lab.sh"
container c10 192.168.10.2/24 2001:db8:10::2/64; container c20 192.168.20.2/24 2001:db8:20::2/64
container far 10.7.0.1/16 192.168.20.9/24
start_shuntd
shuntctl add-br br0 -- add-port br0 c10 tag=10 -- add-port br0 c20 tag=20 -- add-port br0 far tag=20

# svi NAME VLAN ADDRESS… [COLUMN=VALUE]
svi() {
    local name=$1 vlan=$2 addresses=$3; shift 3
    shuntctl -- --id=@s create SVI name="$name" addresses="$addresses" "$@" \
        -- add-port br0 "$name" tag="$vlan" -- set Interface "$name" type=internal svi=@s
}
run_doc() { doc "$1" >"$OUT/$1"; . "$OUT/$1"; } # NAME: of docs/routing.md
gateways() {
    in_ns c10 ip route replace default via 192.168.10.1; in_ns c10 ip -6 route replace default via 2001:db8:10::1
    in_ns c20 ip route replace default via 192.168.20.1; in_ns c20 ip -6 route replace default via 2001:db8:20::1
    in_ns far ip route replace default via 192.168.20.1
}
svi_error() { shuntctl --bare --columns=error find SVI name="$1"; }
row_error() { shuntctl --bare --columns=error list "$1"; }
static_in_fdb() { shuntctl --format=json fdb/show br0 | jq -e --arg p "$1" --argjson v "$2" 'any(.[]; .port == $p and .vlan == $v and .static)'; }
has_address() { grep -qF " $2 " <<<"$(in_ns "$1" ip address show)"; }
has_route() { grep -qE -- "$2" <<<"$(in_ns "$1" ip route show)"; }

say "an address on a VLAN makes the switch its gateway"
svi vlan10 10 '192.168.10.1/24,"2001:db8:10::1/64"'
svi vlan20 20 '192.168.20.1/24,"2001:db8:20::1/64"'
gateways
check "no error" test -z "$(svi_error vlan10)$(svi_error vlan20)"
check "the router's address is in the FDB" static_in_fdb vlan10 10
reaches c10 192.168.10.1
reaches c10 2001:db8:10::1
reaches c10 192.168.20.2
reaches c10 2001:db8:20::2
transfer c10 c20 192.168.20.2
transfer c20 c10 2001:db8:10::2
check "the TTL is one less" bash -c "ip netns exec c10 ping -n -c1 192.168.20.2 | grep -q ttl=63"
reaches host 192.168.20.2

say "routes of the host are followed"
reaches_not c10 10.7.0.1
ip route add 10.7.0.0/16 via 192.168.20.9
reaches c10 10.7.0.1
ip route del 10.7.0.0/16
reaches_not c10 10.7.0.1

say "a rule to another table is followed, by the kernel"
ip route add 10.7.0.0/16 via 192.168.20.9 table 100
reaches_not c10 10.7.0.1
ip rule add from 192.168.10.0/24 lookup 100
reaches c10 10.7.0.1
check "route show says who forwards" wait_for 5 bash -c "shuntctl route show 192.168.20.0/24 | grep -q 'kernel: rules lead to other tables'"
in_ns c10 ping -n -q -f -c 2000 10.7.0.1 >"$OUT/flood" || true
check "not only as many as there may be exceptions" grep -q ' 0% packet loss' "$OUT/flood"
ip rule del from 192.168.10.0/24 lookup 100
reaches_not c10 10.7.0.1
check "then the workers do again" wait_for 5 bash -c "shuntctl route show 192.168.20.0/24 | grep -q 'workers$'"
ip route del 10.7.0.0/16 table 100

say "routes and neighbours of our own"
shuntctl -- create Route prefix=10.7.0.0/16 next_hops='"via 192.168.20.9 dev vlan20"' >"$OUT/route"
check "no error" test -z "$(row_error Route)"
check "it is in the kernel" has_route host '^10\.7\.0\.0/16 via 192\.168\.20\.9 dev vlan20 proto 83'
reaches c10 10.7.0.1
far_mac=$(in_ns far cat /sys/class/net/eth0/address)
shuntctl -- create Neighbor interface=vlan20 address=192.168.20.9 mac="\"$far_mac\"" >"$OUT/neighbour"
check "a permanent neighbour" bash -c "ip neighbour show dev vlan20 | grep -q '192.168.20.9 lladdr $far_mac PERMANENT'"
reaches c10 10.7.0.1

say "what makes no sense is said, and harms nobody"
shuntctl -- create Route prefix=10.8.1.0/8 next_hops='"via 192.168.20.9"' || true
check "host bits" bash -c "shuntctl --bare --columns=error find Route prefix=10.8.1.0/8 | grep -q 'host bits'"
shuntctl -- create Route prefix=10.9.0.0/16 next_hops='"via 172.31.0.1"' || true
check "a next hop that is not reachable" bash -c "shuntctl --bare --columns=error find Route prefix=10.9.0.0/16 | grep -q unreachable"
svi vlan30 30 '192.168.10.7/24' || true
check "overlapping addresses" grep -q 'overlaps with 192.168.10.1/24 of vlan10' <(svi_error vlan30)
refute "the address is not there" has_address host 192.168.10.7/24
reaches c10 192.168.20.2
shuntctl --if-exists del-port vlan30

say "other addresses, another MAC address"
shuntctl set SVI vlan10 addresses='192.168.10.1/24,192.168.10.254/24,"2001:db8:10::1/64"'
reaches c10 192.168.10.254
ip address add 192.168.10.77/24 dev vlan10
shuntctl set SVI vlan10 addresses='192.168.10.1/24,"2001:db8:10::1/64"' -- set Interface vlan10 mac='"02:00:00:00:00:10"'
refute "the old address" has_address host 192.168.10.254/24
check "that of the operator stays" has_address host 192.168.10.77/24
check "the new MAC address is in the FDB" learned br0 02:00:00:00:00:10 10 vlan10
in_ns c10 ip neighbour flush dev eth0
reaches c10 192.168.20.2

say "killed, and started again: what is not wanted any more goes"
stop_shuntd -KILL
ip route add 10.66.0.0/16 via 192.168.20.9 proto 83
start_shuntd
refute "a route that an earlier daemon left" has_route host '^10\.66\.'
check "that of the operator is still there" has_address host 192.168.10.77/24
reaches c10 192.168.20.2
reaches c10 2001:db8:20::2
reaches c10 10.7.0.1
in_ns host ip route flush proto 83
wait_for 10 has_route host '^10\.7\.0\.0/16'
ok "a route that somebody deletes is put there again"

say "a VRF has tables of its own"
container red1 192.168.10.2/24; container red2 192.168.50.2/24
run_doc vrfs
check "no error" test -z "$(svi_error red41)$(svi_error red42)"
in_ns red1 ip route replace default via 192.168.10.1; in_ns red2 ip route replace default via 192.168.50.1
check "the interfaces are in the namespace red" ip -n red link show red41
reaches red1 192.168.50.2
transfer red1 red2 192.168.50.2
reaches_not red1 192.168.20.2
reaches_not c10 192.168.50.2
say "a way between VRFs is made of routes on both sides, and of nothing else"
shuntctl route add 192.168.20.0/24 dev vlan20 vrf red && fail "a route to an interface of another VRF is taken"
check "it is not there" test -z "$(shuntctl --bare --columns=prefix find Route vrf=red)"
run_doc leak
reaches red2 192.168.20.2
reaches c20 192.168.50.2
reaches_not red1 192.168.20.2
shuntctl route del 192.168.50.0/24 -- route del 192.168.20.0/24 vrf red -- del-svi red-link -- del-svi link
reaches_not red2 192.168.20.2
say "an interface moves between VRFs, and a namespace that is deleted is made anew"
shuntctl set SVI red42 vrf=blue
reaches_not red1 192.168.50.2
check "it is in the namespace blue" ip -n blue link show red42
shuntctl clear SVI red42 vrf
check "it is the host's" has_address host 192.168.50.1/24
reaches red2 192.168.50.1
shuntctl set SVI red42 vrf=red
reaches red1 192.168.50.2
ip netns del red
wait_for 20 ip -n red link show red41
reaches red1 192.168.50.2
shuntctl -- create Route vrf=red prefix=10.7.0.0/16 type=unreachable >"$OUT/red-route"
check "a route in the VRF" has_route red '^unreachable 10\.7\.0\.0/16'
stop_shuntd -KILL
start_shuntd
reaches red1 192.168.50.2
reaches c10 192.168.20.2
reaches c10 10.7.0.1

say "when the interface goes, so does all of it"
shuntctl destroy Route "$(cat "$OUT/route")" -- destroy Neighbor "$(cat "$OUT/neighbour")"
refute "the route" has_route host '^10\.7\.'
shuntctl del-port vlan10 -- del-port red41
check "no SVI is left of them" test "$(shuntctl --bare --columns=name list SVI | sort | xargs)" = "red42 vlan20"
refute "its device" ip link show vlan10
refute "its device in the VRF" ip -n red link show red41
reaches_not c10 192.168.20.2
reaches c20 192.168.20.1

say "what is cleaned up when the daemon goes for good"
shuntctl -- create Route prefix=10.99.0.0/16 type=blackhole >"$OUT/last"
check "a route" has_route host '^blackhole 10\.99\.'
shuntctl exit --cleanup
wait "$SHUNTD_PID" || true; SHUNTD_PID=
refute "the route" has_route host '^blackhole 10\.99\.'
refute "the device" ip link show vlan20
