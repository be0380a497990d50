# May the container's end be plumbed by hand after the port was attached: moved, renamed, down and up?
. "$(dirname "$0")/_init.sh"
container c1 192.168.1.100/24
namespace box
ip link add veth103 type veth peer name veth100103
start_shuntd
shuntctl add-br br-vlan181 -- add-port br-vlan181 c1 -- add-port br-vlan181 veth103
ip link set veth103 up
say "as the documents do it: into the namespace, renamed, up, addressed"
ip link set veth100103 netns box
in_ns box ip link set dev veth100103 name eth0
in_ns box ip link set eth0 up
in_ns box ip addr add 192.168.1.101/24 broadcast 192.168.1.255 dev eth0
reaches c1 192.168.1.101
index=$(column veth103 ifindex)
state() { [ "$(column veth103 link_state)" = "$1" ]; }
check "link_state is up" wait_for 5 state up

say "down and up, five times"
for i in 1 2 3 4 5; do
    in_ns box ip link set eth0 down; in_ns box ip link set eth0 up
done
reaches c1 192.168.1.101
in_ns box ip link set eth0 down
check "link_state is down" wait_for 5 state down
reaches_not c1 192.168.1.101
in_ns box ip link set eth0 up
reaches c1 192.168.1.101
say "another MAC, another name, another namespace"
in_ns box ip link set eth0 address 02:00:00:00:aa:01
in_ns c1 ip neigh flush all
reaches c1 192.168.1.101
namespace box2
in_ns box ip link set eth0 netns box2
in_ns box2 ip link set eth0 down
in_ns box2 ip link set eth0 name net1
addresses box2 net1 192.168.1.102/24
in_ns c1 ip neigh flush all
reaches c1 192.168.1.102
say "the host's end down and up"
ip link set veth103 down; ip link set veth103 up
reaches c1 192.168.1.102
check "all the while it was the same attachment" test "$(column veth103 ifindex)" = "$index"
check "without an error" no_error veth103
reaches_not c1 192.168.1.101
