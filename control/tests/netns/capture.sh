# Does a capture show what a port receives, what leaves and what is dropped, so that others read it?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24
container c3
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 tag=10 -- add-port br0 c2 tag=10 -- add-port br0 c3
# captures FILE ARGS…: in the background, until it is in force: the file has begun.
captures() {
    local file=$1; shift; rm -f "$file"
    shuntctl capture "$@" -w "$file" 2>"$file.said" & CAPTURE=$!
    wait_for 5 test -s "$file"
}
ends() { kill -INT "$1"; wait "$1" || fail "capture ends with $?: $(cat "$2.said")"; grep -q "packets captured, 0 lost" "$2.said" || fail "$(cat "$2.said")"; }
fields() { tshark -r "$1" -Y "$2" -T fields -e frame.interface_name -e frame.packet_flags_direction -e frame.comment; }
seen() { fields "$1" "$2" | grep -qE "$3"; }

say "a port, and beside it its bridge with a filter"
captures "$OUT/a.pcapng" c1; one=$CAPTURE
captures "$OUT/br0.pcapng" br0 --filter 'vlan and arp'; two=$CAPTURE
captures "$OUT/drops.pcapng" c1 --drops; three=$CAPTURE
reaches c1 10.0.0.2
frames send c1 7
check "the drop is counted" wait_for 5 dropped c1 tagged_on_access 1
ends $one "$OUT/a.pcapng"; ends $two "$OUT/br0.pcapng"; ends $three "$OUT/drops.pcapng"
tab=$'\t'
check "a request comes in and goes to c2" seen "$OUT/a.pcapng" "icmp.type == 8" "^c1${tab}(0x0*)?1${tab}to c2$"
check "its reply leaves, from c2" seen "$OUT/a.pcapng" "icmp.type == 0" "^c1${tab}(0x0*)?2${tab}from c2$"
check "ARP goes to all" seen "$OUT/a.pcapng" "arp.opcode == 1" "${tab}to c2, c3, br0$|${tab}to .*, .*, "
check "a tagged frame is dropped, and why" seen "$OUT/a.pcapng" "vlan.id == 7" "^c1${tab}(0x0*)?1${tab}dropped: tagged_on_access$"
check "what leaves by the trunk has its tag" seen "$OUT/br0.pcapng" "vlan.id == 10 && arp" "^c3${tab}(0x0*)?2${tab}from c1$"
refute "the filter let something else pass" seen "$OUT/br0.pcapng" "!(vlan && arp)" .
check "drops only" test "$(fields "$OUT/drops.pcapng" frame | sort | uniq -c | awk '{print $1 == 1, $2}')" = "1 c1"
check "capinfos finds all in order" capinfos "$OUT/a.pcapng"

say "filters agree with tcpdump's"
for filter in icmp arp 'icmp[icmptype] = icmp-echo' 'vlan 7' 'not ether host ff:ff:ff:ff:ff:ff' 'src host 10.0.0.1 and greater 60'; do
    captures "$OUT/all.pcapng" c1 --in; one=$CAPTURE
    captures "$OUT/some.pcapng" c1 --in --filter "$filter"; two=$CAPTURE
    in_ns c1 ping -qc1 10.0.0.2 >/dev/null; frames send c1 7
    ends $one "$OUT/all.pcapng"; ends $two "$OUT/some.pcapng"
    want=$(tcpdump -nr "$OUT/all.pcapng" "$filter" 2>/dev/null | sed 's/^[^ ]* //')
    got=$(tcpdump -nr "$OUT/some.pcapng" 2>/dev/null | sed 's/^[^ ]* //')
    [ "$want" = "$got" ] || { diff <(echo "$want") <(echo "$got") || true; fail "filter $filter"; }
    ok "$filter: $(grep -c . <<<"$got")"
done

say "readers that stop, go, and ask for little"
mkfifo "$OUT/fifo"
sleep 60 <"$OUT/fifo" & stuck=$!
shuntctl capture c1 -w "$OUT/fifo" 2>/dev/null & one=$!
refused 1 'no port or bridge in force is named nope' shuntctl capture nope
refused 1 'syntax error' shuntctl capture c1 --filter prot
in_ns c1 ping -qc3000 -i0.0001 -s1400 10.0.0.2 | grep -q ' 0% packet loss' || fail "packets wait for the reader"
ok "packets do not wait for a reader"
kill -KILL $one; wait $one 2>/dev/null || true; kill $stuck
(shuntctl capture c1 -c 2 2>"$OUT/said" >"$OUT/lines"; echo $? >"$OUT/status") & one=$!
wait_for 5 bash -c "ip netns exec c1 ping -qc1 10.0.0.2 >/dev/null; test -e $OUT/status"
wait $one
check "-c 2 is two lines" test "$(cat "$OUT/status" <(wc -l <"$OUT/lines") | tr '\n' ' ')" = "0 2 "
check "a line tells the fate" grep -qE '^[0-9:.]+ c1 (in|out) .* (10.0.0.1 > 10.0.0.2|10.0.0.2 > 10.0.0.1) ICMP, length 98: (to c2|from c2)$' "$OUT/lines"
for n in 1 2 3 4 5 6 7 8; do captures "$OUT/$n.pcapng" c1; pids[n]=$CAPTURE; done
refused 1 'there cannot be more' shuntctl capture c1
for n in 1 2 3 4 5 6 7 8; do ends "${pids[n]}" "$OUT/$n.pcapng"; done

say "what would become of a packet"
says() { local regex=$1; shift; "$@" >"$OUT/said" 2>&1 || fail "$*: $(cat "$OUT/said")"; grep -qE -- "$regex" "$OUT/said" || { cat "$OUT/said"; fail "$* does not say /$regex/"; }; ok "$* says /$regex/"; }
mac() { in_ns "$1" cat /sys/class/net/eth0/address; }
says "^  egress +c2: .* > $(mac c2) 10.0.0.1 > 10.0.0.2 ICMP" shuntctl trace br0 "in_port=c1,dl_src=$(mac c1),dl_dst=$(mac c2),icmp,nw_src=10.0.0.1,nw_dst=10.0.0.2"
says '^  vlan_in +dropped: tagged_on_access: A tagged frame' ovs-appctl -t /run/shunt/db.sock ofproto/trace br0 in_port=c1,dl_vlan=7
says 'the sender is new, and would be learned on c3' shuntctl trace br0 in_port=c3,dl_vlan=10,dl_src=02:00:00:00:00:77
refute "it is learned" learned br0 02:00:00:00:00:77 10
refused 1 'no such port of bridge br0' shuntctl trace br0 in_port=c4
(shuntctl trace --live c1 --filter icmp >"$OUT/live" 2>&1; echo $? >"$OUT/status2") & one=$!
wait_for 5 bash -c "ip netns exec c1 ping -qc1 10.0.0.2 >/dev/null; test -e $OUT/status2"
wait $one
check "a real one, and why" bash -c "grep -q 'c1 in .*ICMP, length 98: to c2$' $OUT/live && grep -q '^  egress    c2: ' $OUT/live"
