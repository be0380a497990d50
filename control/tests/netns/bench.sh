# alone
# Does shunt-perf measure everything that it offers, and leave nothing behind? One short trial each; no figure is judged.
. "$(dirname "$0")/_init.sh"

results=$OUT/results.jsonl
# measure COMMAND OPTIONS…: one trial of a second; the records are added to the results. A peer that loses the frames that prove
# its path is given two more chances.
measure() {
    say "shunt-perf $*"
    for _ in 1 2 3; do
        if shunt-perf "$@" --rounds=1 --seconds=1 --json >"$OUT/one.jsonl" 2>"$OUT/stderr"; then
            cat "$OUT/one.jsonl" >>"$results"
            return
        fi
    done
    cat "$OUT/stderr"; fail "shunt-perf $1"
}
# has JQ-CONDITION: of one of the records just made.
has() { check "a record with $1" jq -es "any(.[]; $1)" "$OUT/one.jsonl"; }

# Open vSwitch on AF_PACKET now and then loses half of the few frames that prove its path: then it is told, and not judged.
if shunt-perf throughput --dut=ovs-packet --size=64 --rounds=1 --seconds=1 --json >"$OUT/one.jsonl" 2>"$OUT/stderr"; then
    has '.dut == "ovs-packet" and .mpps_received > 0'
else
    check "ovs-packet is told to lose frames" grep -q 'slow frames went from' "$OUT/stderr"
fi
measure throughput --dut=shunt,ovs-afxdp,bridge,xdp-redirect,afxdp-forwarder --size=64
for dut in shunt ovs-afxdp bridge xdp-redirect afxdp-forwarder; do
    has ".dut == \"$dut\" and .size == 64 and .mpps_offered > 0 and .mpps_received > 0 and (.loss | type) == \"number\""
done
check "each tells how it was measured" jq -es 'all(.[]; .rig.kernel and .rig.processor and (.cpu | length > 0) and (.cpu_s_per_mpkt | length > 0)
    and .rig.loss_max and .switch.version
    and (.rig.devices | length == 4 and all(.[]; .rx_queues == 1 and (.offloads | length) > 0)))' "$OUT/one.jsonl"

measure throughput --dut=shunt --size=imix,9000 --flows=100 --macs=100 --ports=4
has '.size == "imix" and .gbps_received > 0'
has '.size == 9000 and .gbps_received > 0 and .mtu >= 8986 and .add_port_ms > 0 and .user_kib_per_port > 0'
for vlan in push pop; do
    measure throughput --dut=shunt --vlan=$vlan
    has ".dut == \"shunt\" and .vlan == \"$vlan\" and .mpps_received > 0"
done
measure latency --dut=shunt --rate=20000
has '.samples > 0 and .rtt_min_us > 0 and .rtt_p50_us <= .rtt_p99_us and (.curve | length) > 5'
measure tcp --dut=shunt --mtu=1500 --streams=2
has '.measure == "tcp-2" and .gbps_received > 0'
has '.measure == "udp-2" and .gbps_received > 0'
has '.measure == "request-response" and .tcp_rtt_p50_us > 0 and .udp_rtt_p99_us > 0'
measure idle --dut=shunt
has '.idle_cpu_percent >= 0 and .resident_mib > 0'
measure changes --dut=shunt --rate=10000
has '.changes > 0 and .change_ms > 0 and (.lost_per_change | type) == "number"'

say "shunt-perf floors"
check "floors are held against a table" shunt-perf floors --only=wake-up --rounds=1 --seconds=1 --output="$OUT/floors"
check "the table has its rows" grep -q '^| wake-up | ' "$OUT/floors/table.md"
check "and the JSON too" jq -es 'any(.[]; .floor == "wake-up" and .measured.median > 0)' "$OUT/floors/results.jsonl"
check "a report is drawn" shunt-perf report "$results" --output="$OUT/report.html"
check "with pictures" grep -q '<svg' "$OUT/report.html"

say "a measurement is given up"
shunt-perf throughput --dut=shunt --seconds=60 >/dev/null 2>"$OUT/stderr" & MEASURING=$!
wait_for 20 pgrep -P "$MEASURING" shuntd
kill -TERM "$MEASURING"
wait "$MEASURING" && fail "it ended as if nothing had happened"
refute "namespaces are left" grep -q . <(ip netns list)
refute "a daemon is left" pgrep shuntd
