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
# decoded FILTER FIELD…: of each datagram that matches, the fields; a field of several samples is a list.
decoded() { local filter=$1; shift; tshark -r "$OUT/wire.pcap" -Y "$filter" -T fields -E separator=/s "${@/#/-e}" 2>/dev/null; }
number() { cat "/sys/class/net/$1/ifindex"; }

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
told() { decoded "sflow_245.ifindex == $(number c1) and sflow_245.ifinoct == $octets" sflow_245.numsamples | grep -q .; }
check "counters are those of port/stats" wait_for 5 told
sflow polling=0
capture_stop

check "every datagram is understood" test "$(packets 'sflow and not _ws.malformed')" = "$(packets 'udp.port == 6343')"
check "none is lost" test "$(decoded sflow sflow_245.sequence_number | sort -n | tail -1)" = "$(packets sflow)"
# Expanded flow samples of c1's pings: both decoders of the header agree that it is a ping in VLAN 181.
samples() { tshark -r "$OUT/wire.pcap" -Y sflow -T pdml 2>/dev/null | grep -c "Sampling rate: 1 out of 8"; }
total=$((sent + $(counter c2 .rx_packets))) n=$(samples)
check "$n samples of 1:8 of $total packets" python3 -c "assert abs($n * 8 - $total) <= $total * 4.5 * (1 / $n) ** .5, 'too far away'"
check "VLAN and ports" grep -q "181" <(decoded sflow sflow_245.vlan.in)
check "the drop is told" grep -q . <(tshark -r "$OUT/wire.pcap" -Y 'udp.payload contains 00:00:01:26' 2>/dev/null)

say "another collector, IPv6, and a rate by port; numbers go on"
last=$(decoded sflow sflow_245.sequence_number | sort -n | tail -1)
sflow targets=\"[2001:db8::1]:6344\" sampling=0
shuntctl set Port c2 other_config:sflow-sampling=1
capture_start collector eth0 udp port 6344
one_ping c1 10.0.0.2 >"$OUT/ping"
capture_stop
as_sflow() { tshark -r "$OUT/wire.pcap" -d udp.port==6344,sflow "$@" 2>/dev/null; }
check "only what comes in by c2" test "$(as_sflow -Y sflow -T pdml | grep -c 'Sampling rate: 1 out of')" = "$(as_sflow -Y sflow -T pdml | grep -c 'Sampling rate: 1 out of 1 ')"
check "numbers go on after $last" test "$(as_sflow -Y sflow -T fields -e sflow_245.sequence_number | head -1)" -gt "$last"
refused 65 'sflow-sampling=often of c1 is not a rate' shuntctl set Port c1 other_config:sflow-sampling=often
