# Does a port take no more than its ingress policing allows?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24
for c in c1 c2; do in_ns $c sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 -- add-port br0 c2
received() { counter c2 .tx_packets; }
# seen: how many frames of c1 have come, those included that the kernel had to drop because they came too fast.
seen() { shuntctl --format=json port/stats c1 | jq '.c1 | .rx_packets + .drops.rx_no_frame + .drops.rx_ring_full + .drops.rx_kernel'; }
# passed COUNT SIZE: how many of so many frames of c1 come through to c2.
passed() {
    local before=$(seen) out=$(received)
    frames send c1 --size "$2" --count "$1" --dst 02:00:00:00:00:99
    wait_for 10 all_in $((before + $1)) >&2
    echo $(($(received) - out))
}
all_in() { [ "$(seen)" -ge "$1" ]; }
between() { echo "$2 <= $1 <= $3"; [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; }

say "without a rate all of them pass"
check "200 of 200" [ "$(passed 200 1000)" = 200 ]

say "80 kbit are 10 frames of 1000 octets; at 8 kbit/s one a second follows"
shuntctl set Interface c1 ingress_policing_rate=8 ingress_policing_burst=80
check "a burst of 10 passes" between "$(passed 200 1000)" 10 20
check "the rest has its reason" dropped c1 policed_rate 180
check "and is in rx_dropped" wait_for 10 bash -c '[ "$(shuntctl get Interface c1 statistics:rx_dropped)" -ge 180 ]'
check "what is dropped teaches nothing" frames send c1 --count 20 --size 1000 --src 02:00:00:00:01:00 --step 1
refute "the last of them is known" learned br0 02:00:00:00:01:13 0
reaches c2 10.0.0.1 -s 8

say "packets: 2000 at once"
shuntctl set Interface c1 ingress_policing_rate=0 ingress_policing_kpkts_rate=1 ingress_policing_kpkts_burst=2
before=$(counter c1 .rx_packets)
n=$(passed 20000 60)
check "some 2000, and one more each millisecond: $n" between "$n" 2000 15000
check "the rest has its reason" [ $(($(counter c1 .drops.policed_packets) + n)) = $(($(counter c1 .rx_packets) - before)) ]

say "a rate that TCP can live with"
shuntctl set Interface c1 ingress_policing_kpkts_rate=0 ingress_policing_rate=50000 ingress_policing_burst=40000
transfer c1 c2 10.0.0.2 -t3
rate=$(jq '.end.sum_received.bits_per_second / 1e6 | floor' "$OUT/iperf3")
check "within the rate and its burst" between "$rate" 5 75

say "off again"
shuntctl set Interface c1 ingress_policing_rate=0
check "all of them pass" [ "$(passed 200 1000)" = 200 ]
