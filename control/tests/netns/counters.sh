# Are packets and drops visible, each drop under one reason, in port/stats, the database and worker/show?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24
for c in c1 c2; do in_ns $c sysctl -qw net.ipv6.conf.all.disable_ipv6=1; done # nobody speaks unasked
start_shuntd --metrics unix:/run/metrics.sock
shuntctl add-br br0 -- add-port br0 c1 tag=10 -- add-port br0 c2 tag=10
say "what is sent is counted, in packets and octets"
rx=$(counter c1 .rx_packets) bytes=$(counter c1 .rx_bytes) tx=$(counter c2 .tx_packets)
frames send c1 --count 1000 --size 100 --every 0.0001
at_least() { [ "$(counter "$1" "$2")" -ge "$3" ]; }
check "c1 received 1000" wait_for 5 at_least c1 .rx_packets $((rx + 1000))
check "100000 octets" test "$(counter c1 .rx_bytes)" = $((bytes + 100000))
check "c2 sent 1000" wait_for 5 at_least c2 .tx_packets $((tx + 1000))
check "and no more" test "$(counter c1 .rx_packets) $(counter c2 .tx_packets)" = "$((rx + 1000)) $((tx + 1000))"

say "drops, each under its reason"
frames send c1 10 --count 7
check "tagged_on_access" wait_for 5 dropped c1 tagged_on_access 7
in_ns c2 ip link set eth0 address 02:00:00:00:00:02
frames send c2 --src 02:00:00:00:00:02
frames send c2 --src 02:00:00:00:00:03 --dst 02:00:00:00:00:02 --count 5
check "hairpin" wait_for 5 dropped c2 hairpin 5
frames send c1 --hex "8100000a" --count 3
check "a tag alone, without an ethertype: truncated_vlan or tagged_on_access" wait_for 5 eval \
    '[ $(( $(counter c1 .drops.truncated_vlan) + $(counter c1 .drops.tagged_on_access) )) -ge 10 ]'
shuntctl del-port c2 -- set Port br0 tag=99 # the host's leg is a port too
frames send c1 --count 4
check "flood_empty: nobody is there" wait_for 5 dropped c1 flood_empty 4
sum() { shuntctl --format=json port/stats c1 | jq '.c1 | .rx_packets - ([.drops[]] | add)'; }
check "received = forwarded + dropped" test "$(sum)" = $((rx + 1000))

say "the same in the database, under OVS's names"
check "statistics:rx_packets" wait_for 10 eval '[ "$(column c1 statistics:rx_packets)" = "$(counter c1 .rx_packets)" ]'
check "statistics:drop_tagged_on_access" wait_for 10 eval '[ "$(column c1 statistics:drop_tagged_on_access)" -ge 7 ]'
check "port/stats as text" bash -c "shuntctl port/stats c1 | grep -q tagged_on_access"
check "worker/show names c1's queue" bash -c "shuntctl --format=json worker/show | jq -e 'any(.[].queues[]; .port == \"c1\")'"
check "worker/show as text" bash -c "shuntctl worker/show | grep -q c1"
check "status:xdp-mode is native" test "$(column c1 status:xdp-mode)" = native
refused 1 'no such port.*nobody' shuntctl port/stats nobody

say "drops: the most pressing first, with cause and remedy"
drops_of() { shuntctl --format=json drops "${@:2}" | jq -e "$1"; }
check "c1's" drops_of 'any(.[]; .reason == "tagged_on_access" and .packets >= 7 and .remedy != "" and any(.ports[]; .port == "c1"))' c1
check "the bridge's are those of all its ports" test "$(drops_of '[.[].packets] | add' br0)" = "$(drops_of '[.[].packets] | add')"
check "the sums of port/stats" test "$(drops_of '[.[].packets] | add' c1)" = "$(shuntctl --format=json port/stats c1 | jq '[.c1.drops[]] | add')"
check "as text" bash -c "shuntctl drops c1 | grep -q 'what to do: Make the port a trunk'"
refused 1 'no such port or bridge: nobody' shuntctl drops nobody
shuntctl drops c1 -i 0.5 --json >"$OUT/drops" & following=$!
dropping() { frames send c1 10 --count 5; jq -se 'any(.[][]; .reason == "tagged_on_access" and .per_second > 0)' "$OUT/drops"; }
check "followed, with rates" wait_for 10 dropping
kill -INT $following; wait $following

say "metrics: the same numbers"
metric() { printf "GET /metrics HTTP/1.0\r\n\r\n" | socat -t5 - UNIX:/run/metrics.sock | grep -F "$1" | awk '{ n += $NF } END { print n + 0 }'; }
equal() { [ "$(metric "$1")" = "$2" ]; }
check "received" wait_for 5 equal 'shunt_port_receive_packets_total{port="c1",bridge="br0"}' "$(counter c1 .rx_packets)"
check "dropped, of each reason" wait_for 5 equal 'shunt_port_drops_total{port="c1",bridge="br0",' "$(drops_of '[.[].packets] | add' c1)"
check "a transaction's way to the workers was measured" test "$(metric shunt_control_apply_seconds_count)" -ge 2
check "and each pass" test "$(metric shunt_control_pass_seconds_count)" -ge 2
check "the worker" test "$(metric shunt_worker_receive_packets_total)" -ge 1000
shuntctl add-port br0 nobody || true
check "an interface in trouble" wait_for 5 equal shunt_control_interfaces_with_error 1

say "top, in a terminal of 80x24"
export TMUX_TMPDIR=$OUT
tmux -u -f /dev/null new-session -d -x 80 -y 24 "shuntctl top -i 0.3; echo \"status \$?\"; cat"
on_screen() { tmux capture-pane -p >"$OUT/screen"; grep -qE "$1" "$OUT/screen"; }
check "ports and workers" wait_for 5 on_screen '^c1 +br0 '
check "the core" on_screen '^core [0-9]+ +busy +[0-9.]+ %'
busy() { frames send c1 10 --count 20; on_screen '^c1 +br0 .* [1-9][0-9.k]* +[1-9]'; }
check "drops of now" wait_for 10 busy
cp "$OUT/screen" "$OUT/top"
tmux send-keys Enter
check "Enter tells why, and what to do" wait_for 5 on_screen 'To do:  Make the port a trunk'
tmux send-keys Escape
check "Esc goes back" wait_for 5 on_screen '^c1 +br0 '
tmux send-keys q
check "q ends it and leaves the terminal as it was" wait_for 5 on_screen '^status 0'
tmux send-keys 'as it was' Enter
check "which echoes again" wait_for 5 on_screen '^as it was'
tmux kill-server
check "without a terminal it prints one look" bash -c 'shuntctl top -i 0.2 </dev/null | grep -E "^c1 +br0 "'

say "load on both sockets: thousands of connections, garbage, nobody reads; packets pass all the same"
shuntctl add-port br0 c2 tag=10
cat >"$OUT/load.py" <<'END'
import socket, sys
held = []
for n in range(2000):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    says = [b"", b"{[", b"\x16\x03 garbage\r\n\r\n", b'{"method":"port/stats","params":[],"id":0}' * 50, b"GET /metrics HTTP/1.1\r\n\r\n"]
    try:
        s.connect(["/run/shunt/db.sock", "/run/metrics.sock"][n % 2])
        s.setblocking(False)
        s.send(says[n % 5])
    except OSError:
        pass
    held.append(s)
print("held", flush=True)
sys.stdin.read()
END
mkfifo "$OUT/hold"
(ulimit -n 8192; exec /usr/bin/python3 "$OUT/load.py" <"$OUT/hold" >"$OUT/load") & load=$!
exec 9>"$OUT/hold"
check "2000 connections" wait_for 30 grep -q held "$OUT/load"
tx=$(metric 'shunt_port_transmit_packets_total{port="c2"')
frames send c1 --count 1000 --size 100 --every 0.0001
check "1000 packets pass meanwhile, and metrics tell so" wait_for 10 equal 'shunt_port_transmit_packets_total{port="c2"' $((tx + 1000))
check "and the daemon obeys while they are there" shuntctl set Port c1 tag=11
shuntctl capture c1 -c 1 >"$OUT/seen" 2>&1 & one=$!
sees() { frames send c1; grep -q ' c1 in ' "$OUT/seen"; }
check "and shows what it does" wait_for 10 sees
wait $one
exec 9>&-
wait $load
check "and when they are gone" shuntctl set Port c1 tag=12
