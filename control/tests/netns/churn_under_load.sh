# Does the switch stay whole while ports, VLANs and containers change under the very traffic that they carry?
. "$(dirname "$0")/_init.sh"
for i in 1 2 3 4; do container c$i 10.0.0.$i/24; done
start_shuntd
shuntctl add-br br0
for i in 1 2 3 4; do shuntctl add-port br0 c$i tag=10; done
can_ping c1 10.0.0.2
in_ns c2 iperf3 -s >/dev/null 2>&1 &
in_ns c4 iperf3 -s >/dev/null 2>&1 &
wait_for 5 listening c2 5201
wait_for 5 listening c4 5201
# c1 floods c2, and c3 talks TCP to c4 throughout.
in_ns c1 ip neigh replace 10.0.0.2 lladdr "$(in_ns c2 cat /sys/class/net/eth0/address)" nud permanent dev eth0
flood() { while frames_flood; do :; done; }
frames_flood() { in_ns c1 ping -n -q -f -c 2000 -s 1400 -W 1 10.0.0.2 >/dev/null 2>&1 || true; }
flood & FLOOD=$!
in_ns c3 iperf3 -c 10.0.0.4 -t 15 -J >"$OUT/bystander" 2>&1 & BYSTANDER=$!

say "the receiver of a flood is detached and attached, 40 times"
for _ in $(seq 40); do shuntctl del-port c2; shuntctl add-port br0 c2 tag=10; done
say "its VLAN changes, 40 times"
for _ in $(seq 20); do shuntctl set Port c2 tag=20; shuntctl set Port c2 tag=10; done
say "its container dies and comes back, 5 times"
for _ in $(seq 5); do
    ip link del c2; ip netns del c2
    wait_for 5 has_error c2
    container c2 10.0.0.2/24
    wait_for 5 no_error c2
done
say "the bridge's tables are flushed and its ports listed, all the while"
for _ in $(seq 20); do shuntctl fdb/flush br0 >/dev/null; shuntctl port/stats >/dev/null; shuntctl show >/dev/null; done
kill $FLOOD; wait $FLOOD 2>/dev/null || true
wait $BYSTANDER || fail "the bystander's TCP session broke: $(jq -r .error "$OUT/bystander")"
ok "the bystander's TCP session lived through it: $(jq '.end.sum_received.bits_per_second / 1e6 | floor' "$OUT/bystander") Mbit/s"
in_ns c1 ip neigh flush all nud permanent
in_ns c1 ip neigh flush all
reaches c1 10.0.0.2
check "no descriptor made no sense" test "$(shuntctl --format=json port/stats | jq '[.[].drops.descriptor // 0] | add')" = 0
shuntctl del-port c2
reaches_not c1 10.0.0.2
