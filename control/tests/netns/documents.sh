# Do the scripts that users have written down run as they are: by the real ovs-vsctl, by shuntctl under its name, by brctl?
. "$(dirname "$0")/_init.sh"
. "$HERE/_docker.sh"
mkdir -p /run/names/ovs /run/names/brctl
ln -s "$BIN/shuntctl" /run/names/ovs/ovs-vsctl
ln -s "$BIN/shuntctl" /run/names/brctl/brctl
uplink
leaf_vlans 181=192.168.1.1/24

# Word for word, but for the prefix length behind the address.
cat >/run/host-ovs <<'EOS'
ovs-vsctl add-br br-vlan181
ifconfig br-vlan181 up
ovs-vsctl add-port br-vlan181 eth0.181
EOS
cat >/run/host-brctl <<'EOS'
brctl addbr br-vlan181
ifconfig br-vlan181 up
brctl addif br-vlan181 eth0.181
EOS
cat >/run/container <<'EOS'
lxcname=$1
cidfile=/run/$lxcname.cid
/usr/bin/env docker run -d --net=none --name $lxcname --cidfile $cidfile ubuntu ping 127.0.0.1
pid=$(docker inspect -f '{{.State.Pid}}' $lxcname)
mkdir -p /var/run/netns
ln -s /proc/$pid/ns/net /var/run/netns/$pid
ip link add veth103 type veth peer name veth100103
ADD_PORT br-vlan181 veth103
ip link set veth103 up
ip link set veth100103 netns $pid
ip netns exec $pid ip link set dev veth100103 name eth0
ip netns exec $pid ip link set eth0 up
ip netns exec $pid ip addr add 192.168.1.101/24 broadcast 192.168.1.255 dev eth0
ip netns exec $pid ip route add default via 192.168.1.1
ip netns exec $pid ping -c 5 -i 0.2 192.168.1.1
EOS
# tell TEXT HOST-SCRIPT ADD-PORT-COMMAND CONTAINER [SHUNTD-OPTIONS…]
tell() {
    local text=$1 host=$2 add_port=$3 name=$4; shift 4
    say "$text"
    start_shuntd "$@"
    check "the host's part" bash -e -x "/run/$host"
    check "the bridge's own leg is up" bash -c 'ip link show br-vlan181 | grep -q UP'
    sed "s/ADD_PORT/$add_port/" /run/container >/run/container.sh
    check "the container's part, with its five pings" bash -e -x /run/container.sh "$name"
    capture_start leaf swp1
    docker_reaches "$name" 192.168.1.1
    capture_stop
    check "its frames have VLAN 181 on the wire" test "$(packets 'icmp && vlan.id == 181')" -gt 0
    check "and all of them have" test "$(packets 'icmp && !vlan')" = 0
    docker rm -f "$name" >/dev/null
    rm -f /var/run/netns/[0-9]*
}
real=$(command -v ovs-vsctl)
refute "ovs-vsctl is ours already" test "$real" -ef "$BIN/shuntctl"

export SHUNT_DB=/var/run/openvswitch/db.sock; mkdir -p /var/run/openvswitch # where ovs-vsctl looks by itself
tell "Debian's ovs-vsctl, as it is, and shuntd where it looks" host-ovs "ovs-vsctl add-port" one --socket $SHUNT_DB
check "it says what there is" bash -c "'$real' show | grep -q 'Port veth103'"
"$real" del-br br-vlan181
stop_shuntd; unset SHUNT_DB

PATH=/run/names/ovs:$PATH
tell "shuntctl by the name ovs-vsctl" host-ovs "ovs-vsctl add-port" two
check "it is ours" test "$(command -v ovs-vsctl)" -ef "$BIN/shuntctl"
check "OVS_RUNDIR leads the real one here too" env OVS_RUNDIR=/run/shunt "$real" br-exists br-vlan181
ovs-vsctl del-br br-vlan181
stop_shuntd

PATH=/run/names/brctl:$PATH
tell "shuntctl by the name brctl" host-brctl "brctl addif" three
brctl show | tee "$OUT/brctl"
check "it shows the bridge and its ports" grep -q 'br-vlan181.*8000\..*no.*eth0.181' "$OUT/brctl"
ifconfig br-vlan181 down
check "and takes the bridge away" brctl delbr br-vlan181
