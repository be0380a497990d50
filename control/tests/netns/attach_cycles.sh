# alone
# Do 200 attachments and detachments leave an untouched pair, and the daemon's own resources, alone?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24; container guest 10.0.0.3/24
uplink
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 -- add-port br0 c2
cycle() {
    shuntctl add-port br0 guest -- add-port br0 eth0.181
    [ "${1:-}" != check ] || can_ping c1 10.0.0.3
    shuntctl del-port guest -- del-port eth0.181
}
cycle; cycle # the first ones may allocate for ever
can_ping c1 10.0.0.2
descriptors() { ls "/proc/$SHUNTD_PID/fd" | wc -l; }
areas() { grep -c memfd "/proc/$SHUNTD_PID/maps"; }
fds=$(descriptors) areas=$(areas)
received_before=$(counter c1 .rx_packets)
ip netns exec c1 ping -n -i 0.01 10.0.0.2 >"$OUT/ping" & PING=$!
say "200 cycles"
for i in $(seq 200); do cycle "$([ $((i % 50)) != 0 ] || echo check)"; done
kill -INT $PING; wait $PING || true
answers=$(grep -c 'bytes from' "$OUT/ping")
last=$(sed -n 's/.*icmp_seq=\([0-9]*\).*/\1/p' "$OUT/ping" | tail -1)
check "no ping of $last was lost ($answers answers)" test "$answers" = "$last"
check "none came twice" bash -c "! grep -q DUP '$OUT/ping'"
check "as many descriptors as before ($fds)" wait_for 5 eval '[ "$(descriptors)" = "$fds" ]'
check "as many memory areas as before ($areas)" wait_for 5 eval '[ "$(areas)" = "$areas" ]'
check "the untouched ports dropped nothing" test "$(shuntctl --format=json port/stats | jq '[.c1, .c2 | .drops | del(.reserved_multicast) | .[]] | add')" = 0
check "and counted every packet" test "$(($(counter c1 .rx_packets) - received_before))" -ge "$last"
check "the guest attaches still" cycle check
refute "guest is in the configuration" shuntctl port-to-br guest
refute "its device still has a program" has_xdp guest
