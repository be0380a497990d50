# Do real Docker containers, plumbed by hand as the users' documents do it, talk through the switch?
. "$(dirname "$0")/_init.sh"
. "$HERE/_docker.sh"

uplink
leaf_vlans 181=192.168.1.1/24 182=192.168.2.1/24
start_shuntd
for vlan in 181 182; do
    shuntctl add-br br-vlan$vlan
    ip link set br-vlan$vlan up
    shuntctl add-port br-vlan$vlan eth0.$vlan
done
bridge_container() { # NAME VLAN NUMBER ADDRESS GATEWAY
    docker run -d --net=none --name "$1" ubuntu ping 127.0.0.1 >/dev/null
    local pid; pid=$(docker inspect -f '{{.State.Pid}}' "$1")
    mkdir -p /var/run/netns
    ln -s "/proc/$pid/ns/net" "/var/run/netns/$pid"
    ip link add "veth$3" type veth peer name "veth100$3"
    shuntctl add-port "br-vlan$2" "veth$3"
    ip link set "veth$3" up
    ip link set "veth100$3" netns "$pid"
    ip netns exec "$pid" ip link set dev "veth100$3" name eth0
    ip netns exec "$pid" ip link set eth0 up
    ip netns exec "$pid" ip addr add "$4/24" broadcast + dev eth0
    ip netns exec "$pid" ip route add default via "$5"
}
bridge_container c1 181 101 192.168.1.101 192.168.1.1
bridge_container c2 181 102 192.168.1.102 192.168.1.1
bridge_container d1 182 103 192.168.1.103 192.168.1.1
bridge_container d2 182 104 192.168.2.104 192.168.2.1
capture_start leaf swp1
docker_reaches c1 192.168.1.1
docker_reaches c1 192.168.1.102
docker_reaches d2 192.168.2.1
capture_stop
check "VLAN 181 is tagged on the uplink" test "$(packets 'icmp && vlan.id == 181')" -gt 0
check "so is VLAN 182" test "$(packets 'icmp && vlan.id == 182')" -gt 0
check "and no ICMP is untagged" test "$(packets 'icmp && !vlan')" = 0
refute "c1 reaches d1, which is in the other VLAN" docker exec c1 ping -c2 -W1 192.168.1.103

say "a container goes away with its veth: the port says so and the others stay"
docker rm -f c2 >/dev/null
check "its port has an error" wait_for 10 has_error veth102
refute "c1 reaches c2, which is gone" docker exec c1 ping -c1 -W1 192.168.1.102
docker_reaches c1 192.168.1.1
