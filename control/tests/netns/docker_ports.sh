# Does `shuntctl docker` connect containers as ovs-docker does, and namespaces and processes too?
. "$(dirname "$0")/_init.sh"
. "$HERE/_docker.sh"
uplink
leaf_vlans 181=192.168.1.1/24
start_shuntd
shuntctl add-br br-vlan181
shuntctl add-port br-vlan181 eth0.181
for c in web db; do docker run -d --net=none --name $c ubuntu ping 127.0.0.1 >/dev/null; done
in_c() { local c=$1; shift; nsenter -t "$(docker inspect -f '{{.State.Pid}}' "$c")" -n "$@"; }
find_port() { shuntctl --bare --columns=name find Interface external_ids:container_id="$1" external_ids:container_iface="$2"; }

say "a container: MAC and MTU, addresses, gateway, and the first frame is its own announcement"
capture_start leaf swp1
check "add-port" shuntctl docker add-port br-vlan181 eth1 web --ipaddress=192.168.1.2/24 --gateway=192.168.1.1 \
    --macaddress=a2:c3:0d:49:7f:f8 --mtu=1450
announced() { packets 'vlan.id == 181 && arp.isgratuitous && eth.src == a2:c3:0d:49:7f:f8' | grep -qv '^0$'; }
check "a gratuitous ARP on the wire, in its VLAN" wait_for 10 announced
capture_stop
link() { in_c web ip -j addr show eth1 | jq -e "$1"; }
check "MAC" link '.[0].address == "a2:c3:0d:49:7f:f8"'
check "MTU" link '.[0].mtu == 1450'
check "address" link '.[0].addr_info | any(.local == "192.168.1.2" and .prefixlen == 24)'
check "default route" bash -c "$(declare -f in_c); in_c web ip route | grep -q 'default via 192.168.1.1 dev eth1'"
docker_reaches web 192.168.1.1
check "the bridge knew it before" learned br-vlan181 a2:c3:0d:49:7f:f8 0
port=$(find_port web eth1)
check "its port is found as with ovs-docker" test -n "$port"
check "the host's end has the same MTU" test "$(cat "/sys/class/net/$port/mtu")" = 1450
refused 1 "Port already attached for CONTAINER=web and INTERFACE=eth1" shuntctl docker add-port br-vlan181 eth1 web
id=$(docker inspect -f '{{.Id}}' web)
refused 1 "Port already attached" shuntctl docker add-port br-vlan181 eth1 "${id:0:12}"

say "IPv6, an address without a prefix, and a bridge that is not there yet"
check "add-port makes the bridge" shuntctl docker add-port br-new eth1 db --ipaddress=10.9.0.1,fd00::1/64 --gateway=10.9.0.254,fd00::fe
check "both addresses" bash -c "$(declare -f in_c); in_c db ip -j addr show eth1 | jq -e '[.[0].addr_info[].local] | contains([\"10.9.0.1\", \"fd00::1\"])'"
check "no address is tentative" bash -c "$(declare -f in_c); ! in_c db ip addr show eth1 | grep tentative | grep -v fe80"
check "the gateway beyond the prefix is on the link" bash -c "$(declare -f in_c); in_c db ip route | grep -q 'default via 10.9.0.254 dev eth1 .*onlink'"
check "and IPv6's is there" bash -c "$(declare -f in_c); in_c db ip -6 route | grep -q 'default via fd00::fe dev eth1'"

say "set-vlan"
check "set-vlan" shuntctl docker set-vlan br-vlan181 eth1 web 5
check "is the port's tag" test "$(shuntctl get Port "$port" tag)" = 5
refute "web reaches the leaf from another VLAN" docker_ping web 192.168.1.1
shuntctl docker set-vlan br-vlan181 eth1 web 0
docker_reaches web 192.168.1.1
refused 1 "4096 is not in the valid range" shuntctl docker set-vlan br-vlan181 eth1 web 4096

say "namespaces and processes"
namespace n1
check "netns:NAME" shuntctl docker add-port br-vlan181 eth0 netns:n1 --ipaddress=192.168.1.3/24
reaches n1 192.168.1.1
namespace n2
check "a path" shuntctl docker add-port br-vlan181 eth0 /run/netns/n2 --ipaddress=192.168.1.4/24 --vlan=7
check "with its VLAN at once" test "$(shuntctl get Port "$(find_port /run/netns/n2 eth0)" tag)" = 7
unshare -n sleep 1000 & sleeper=$!
wait_for 5 bash -c "! test /proc/$sleeper/ns/net -ef /proc/self/ns/net"
check "a process" shuntctl docker add-port br-vlan181 eth0 $sleeper --ipaddress=192.168.1.5/24
reaches n1 192.168.1.5
check "json names the port" bash -c "ip netns add n3; shuntctl --format=json docker add-port br-vlan181 x netns:n3 | jq -e '.port | length == 15'"

say "what fails leaves nothing behind"
before=$(ip -o link | wc -l; shuntctl list-br; shuntctl list-ports br-vlan181)
refused 1 "is not an IP address" shuntctl docker add-port br-gone eth7 web --ipaddress=10.0.0.300/24
refused 1 "unknown option \"--ipadress=10.0.0.3\" \(did you mean --ipaddress\?\)" shuntctl docker add-port br-gone eth7 web --ipadress=10.0.0.3
refused 1 "there is no container nobody" shuntctl docker add-port br-gone eth7 nobody
refused 1 "cannot open the network namespace /run/netns/nowhere" shuntctl docker add-port br-gone eth7 netns:nowhere
refused 1 "create the veth" shuntctl docker add-port br-gone lo web
refused 1 "Failed to add [0-9a-f]*_l to bridge br-gone: .*MTU" shuntctl docker add-port br-gone eth7 web --mtu=20000
refused 1 "not enough arguments" shuntctl docker add-port br-gone eth7
refused 1 "add the address|add the default route" shuntctl docker add-port br-gone eth7 web --ipaddress=10.1.1.1/24,10.1.1.1/24
refused 1 "unknown command \"add-prt\" \(did you mean add-port\?\)" shuntctl docker add-prt
docker stop -t0 db >/dev/null
refused 1 "container db does not run" shuntctl docker add-port br-gone eth7 db
check "links, bridges and ports are what they were, but for the stopped container's" \
    test "$(( $(ip -o link | wc -l) + 1 ))" -ge "$(head -1 <<<"$before")" -a -z "$(shuntctl list-br | grep gone)"
check "no port more" test "$(shuntctl list-ports br-vlan181)" = "$(tail -n +4 <<<"$before")"

say "del-port and del-ports"
refused 1 "Failed to find any attached port for CONTAINER=web and INTERFACE=eth9 \(it has eth1\)" shuntctl docker del-port br-vlan181 eth9 web
check "del-port" shuntctl docker del-port br-vlan181 eth1 web
refute "the veth" ip link show "$port"
refute "the interface in the container" in_c web ip link show eth1
check "del-ports of a container that is gone" shuntctl docker del-ports br-new db
check "no port of it" test -z "$(find_port db eth1)"
check "del-ports of one that has none" shuntctl docker del-ports br-vlan181 web
kill $sleeper

say "the real ovs-docker with the real ovs-vsctl finds its way too"
mkdir -p /var/run/openvswitch && ln -s /run/shunt/db.sock /var/run/openvswitch/db.sock
check "add-port" ovs-docker add-port br-vlan181 eth1 web --ipaddress=192.168.1.2/24
docker_reaches web 192.168.1.1
check "del-port by ours" shuntctl docker del-port br-vlan181 eth1 web
ln -s "$BIN/shuntctl" /run/ovs-docker
check "by the name ovs-docker" /run/ovs-docker add-port br-vlan181 eth1 web --ipaddress=192.168.1.2/24
check "del-port by the real one" ovs-docker del-port br-vlan181 eth1 web
