# Does a collector learn what the switch saw? Samples, drops and counters, read by Wireshark's decoder.
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24
container c2 10.0.0.2/24
container collector 192.0.2.1/24 2001:db8::1/64
addresses host collector 192.0.2.7/24 2001:db8::7/64
for c in c1 c2; do in_ns $c sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done
start_shuntd
shuntctl add-br br0
for c in c1 c2; do shuntctl add-port br0 $c tag=181; done
sflow() { shuntctl set sFlow "$(shuntctl get Bridge br0 sflow)" "$@"; }
status() { shuntctl get Bridge br0 status | grep -qF -- "$1"; }
# decode PORT: the capture, as Wireshark reads it; then `field NAME` gives all values of a field, one a line.
decode() { tshark -r "$OUT/wire.pcap" -d "udp.port==$1,sflow" -T pdml >"$OUT/decoded" 2>/dev/null; }
field() { grep -o "name=\"$1\" .*" "$OUT/decoded" | sed 's/.* show="\([^"]*\)".*/\1/'; }
count() { grep -c "$1" "$OUT/decoded" || true; }
last() { field sflow_245.sequence_number | sort -n | tail -1; }
hex() { od -An -v -tx1 "$OUT/wire.pcap" | tr -d ' \n'; }

say "what makes no sense is told with what to do, and nothing is sampled"
shuntctl -- --id=@s create sFlow agent=192.0.2.1 targets=\"192.0.2.1:6343\" header=128 sampling=8 polling=1 -- set Bridge br0 sflow=@s
check "the agent is the collector" status "192.0.2.1 is that of the collector"
sflow agent=nowhere
check "the agent is no device" status "agent=nowhere is neither an address nor a device"
refused 1 'no bridge is sampled' shuntctl flows --top
refused 1 'unknown word "--tip"' shuntctl flows --tip

say "a known load is estimated, and counted to the packet"
capture_start collector eth0 udp port 6343
sflow agent=collector
check "all is well" test "$(shuntctl get Bridge br0 status)" = "{}"
in_ns c1 ping -q -f -c 4000 -s 1000 10.0.0.2 >"$OUT/ping"
seen() { [ "$(shuntctl --format=json flows/top 20 | jq "map(select(.from == \"10.0.0.1\" and .vlan == 181 and .port == \"c1\")) | .[0].samples // 0")" -gt 300 ]; }
check "the flow is among the greatest" wait_for 5 seen
timeout 1 shuntctl flows --watch --above=1M >"$OUT/watched" || true
check "it is above a rate: $(head -1 "$OUT/watched")" grep -q ' begin .* c1 vlan 181 10.0.0.1 > 10.0.0.2 icmp' "$OUT/watched"
check "and in text" grep -q ' c1 .* 181 .* 10.0.0.1 .* 10.0.0.2 .* icmp' <(shuntctl flows --top=3)
frames send c1 --src 02:00:00:00:00:55 --dst 01:80:c2:00:00:0e
sent=$(counter c1 .rx_packets) octets=$(counter c1 .rx_bytes)
told() { hex | grep -q "$(printf %016x "$octets")"; }
check "counters come" wait_for 5 told
sflow polling=0
capture_stop
decode 6343
check "every datagram is understood, and none is lost" test "$(count 'proto name="sflow"') $(count _ws.malformed)" = "$(last) 0"
check "64 bits of octets are those of port/stats" grep -qx "$octets" <(field sflow_245.ifinoct)
total=$((sent + $(counter c2 .rx_packets))) n=$(count 'Sampling rate: 1 out of 8')
check "$n samples of 1:8 of $total packets" python3 -c "assert abs($n * 8 - $total) <= $total * 4.5 * (1 / $n) ** .5, 'too far away'"
check "access ports have VLANs" test "$(field sflow_245.vlan.in | sort -u)" = 181
# 294: the destination is reserved.
check "the drop is told" grep -q 0000012600000001 <(hex)

say "another collector, IPv6, and a rate by port; numbers go on"
before=$(last)
sflow targets=\"[2001:db8::1]:6344\" sampling=0
shuntctl set Port c2 other_config:sflow-sampling=1
capture_start collector eth0 udp port 6344
one_ping c1 10.0.0.2 >"$OUT/ping"
capture_stop
decode 6344
check "only what comes in by c2" test "$(count 'Sampling rate: 1 out of')" = "$(count 'Sampling rate: 1 out of 1 ')"
check "numbers go on after $before" test "$(field sflow_245.sequence_number | head -1)" -gt "$before"

say "what is routed says by which route"
container c3 10.1.0.2/24
in_ns c3 sysctl -qw net.ipv6.conf.all.disable_ipv6=1
shuntctl add-port br0 c3 tag=182
shuntctl add-svi br0 gw1 tag=181 address=10.0.0.254/24
shuntctl add-svi br0 gw2 tag=182 address=10.1.0.254/24
in_ns c1 ip route add default via 10.0.0.254
in_ns c3 ip route add default via 10.1.0.254
in_ns c3 ip addr add 10.3.3.3/32 dev lo
shuntctl route add 10.3.0.0/16 via 10.1.0.2
reaches c1 10.3.3.3
shuntctl set Port c2 other_config:sflow-sampling=0 -- set Port c1 other_config:sflow-sampling=1
capture_start collector eth0 udp port 6344
in_ns c1 ping -q -n -c3 -i0.1 10.3.3.3 >"$OUT/ping"
in_ns c1 ping -q -n -c3 -i0.1 10.1.0.2 >"$OUT/ping"
capture_stop
decode 6344
routes() { paste -d' ' <(field sflow_245.nexthop) <(field sflow_245.nexthop.src_mask) <(field sflow_245.nexthop.dst_mask) | sort -u; }
check "to a network behind a router, and to a neighbour on the link" test "$(routes | xargs)" = "0.0.0.0 24 24 10.1.0.2 24 16"
check "from one VLAN into the other" grep -qx 182 <(field sflow_245.vlan.out)
refused 65 'sflow-sampling=often of c1 is not a rate' shuntctl set Port c1 other_config:sflow-sampling=often
