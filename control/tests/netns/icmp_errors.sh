# Does each packet that cannot go on get the right ICMP error or none, from the right address, and no more of them than it may?
. "$(dirname "$0")/_init.sh"
container c10 10.0.10.11/24 2001:db8:10::11/64
MTU=1400 container c20 10.0.20.11/24 2001:db8:20::11/64
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
start_shuntd
shuntctl add-br br0 -- add-port br0 c10 tag=10 -- add-port br0 c20 tag=20 \
    -- add-svi br0 vlan10 tag=10 address=10.0.10.1/24,2001:db8:10::1/64 \
    -- add-svi br0 vlan20 tag=20 address=10.0.20.1/24,2001:db8:20::1/64
check "VLAN 20 has the MTU of its port" wait_for 5 bash -c 'ip link show vlan20 | grep -q "mtu 1400"'
for ns in c10 c20; do
    net=${ns#c}
    in_ns $ns ip route replace default via 10.0.$net.1; in_ns $ns ip -6 route replace default via 2001:db8:$net::1
done
shuntctl route add unreachable 10.66.0.0/16 -- route add prohibit 10.67.0.0/16 -- route add blackhole 10.68.0.0/16 \
    -- route add unreachable 2001:db8:66::/48 -- route add prohibit 2001:db8:67::/48 -- route add blackhole 2001:db8:68::/48
# Both ends of each way know each other.
reaches c10 10.0.20.11
reaches c10 2001:db8:20::11
for n in {101..199}; do echo "addr add 10.0.10.$n/24 dev eth0"; done | ip -n c10 -batch -
router=$(cat /sys/class/net/vlan10/address)

say "every kind of packet against every cause"
limits=(net.ipv4.icmp_ratelimit net.ipv6.icmp.ratelimit net.ipv4.icmp_msgs_per_sec net.ipv4.icmp_msgs_burst)
read -r -a before <<<"$(sysctl -n "${limits[@]}" | xargs)"
sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000 net.ipv4.icmp_msgs_burst=100000
"$HERE/icmp_errors.py" c10 "$router" || fail "a packet got the wrong error, or one that it must not get"
ok "all of them are right"

say "a burst of them gets few"
for i in "${!limits[@]}"; do sysctl -qw "${limits[i]}=${before[i]}"; done
read -r v4 v6 <<<"$("$HERE/icmp_errors.py" c10 "$router" burst 300 | xargs)"
check "IPv4: $v4 errors for 300 packets" test "$v4" -ge 1 -a "$v4" -le 30
check "IPv6: $v6" test "$v6" -ge 1 -a "$v6" -le 30
