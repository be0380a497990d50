# Does BGP over link-local addresses (RFC 8950) live on undisturbed while containers come and go, and does it carry both families?
. "$(dirname "$0")/_init.sh"
. "$HERE/_lab.sh"
. "$HERE/_fabric.sh"
shunt_host h1 h2
wires unnumbered
for h in 1 2; do
    host_ports $h
    doc_on h$h "uplinks unnumbered"
done
fabric unnumbered
for n in 1 2; do host_conf $n "frr unnumbered" | frr h$n; done
for m in h1 h2; do check "both sessions of $m are up" wait_for 30 established $m 2; done
for prefix in 10.2.10.0/24 2001:db8:2:10::/64; do check "h1 has two ways to $prefix" wait_for 20 has_route h1 $prefix 2; done
for prefix in 10.1.10.0/24 2001:db8:1:10::/64; do check "h2 has two ways to $prefix" wait_for 20 has_route h2 $prefix 2; done
check "IPv4 goes by IPv6 next hops" bash -c "ip -n h1 route show 10.2.10.0/24 | grep -q 'via inet6 fe80::'"
reaches c1 10.2.10.11
reaches c1 2001:db8:2:10::11
check "over three routers: h1, a leaf, h2" hops c1 3 10.2.10.11
check "IPv6, too" hops c1 3 2001:db8:2:10::11
by_workers h1 transfer c1 c2 10.2.10.11
by_workers h1 transfer c1 c2 2001:db8:2:10::11
for to in 10.2.10.11 2001:db8:2:10::11; do
    from=10.1.10.11; [[ $to != *:* ]] || from=2001:db8:1:10::11
    on h1 shuntctl forward trace $from $to >"$OUT/trace"
    check "forward trace: one way of two, by the workers" eval 'grep -q "way [12] of 2" "$OUT/trace" && grep -q "^forwarded by the workers" "$OUT/trace"'
done

say "twenty containers come and go"
# Until nothing is said but keepalives.
keepalives() { vty h1 'show bgp neighbors json' | jq '[.[].messageStats | .keepalivesRecv, .keepalivesSent] | min'; }
a_keepalive_later() { local kept; kept=$(keepalives); wait_for 10 eval "[ \$(keepalives) -gt $((kept + 1)) ]"; }
quiet() { sessions h1 >"$OUT/before"; a_keepalive_later; sessions h1 | diff "$OUT/before" -; }
check "the sessions are quiet: $(sessions h1 | xargs)" wait_for 30 quiet
link_local() { ip -n h1 -6 addr show up0 scope link; }
link_local >"$OUT/link-local"
for i in $(seq 20); do
    guest h1 x$i 10.1.10.$((100 + i))/24 10.1.10.1 2001:db8:1:10::$((100 + i))/64 2001:db8:1:10::1
    on h1 shuntctl add-port br0 x$i tag=10
done
reaches x20 10.2.10.11
reaches c2 2001:db8:1:10::120
for i in $(seq 20); do
    on h1 shuntctl del-port br0 x$i
    ip netns del x$i
done
check "keepalives go on in both directions" a_keepalive_later
sessions h1 >"$OUT/after"
check "no session went down, no update was sent: $(xargs <"$OUT/after")" diff "$OUT/before" "$OUT/after"
check "the link-local address is what it was" diff "$OUT/link-local" <(link_local)

say "a network comes and goes"
on h1 shuntctl add-svi br0 vlan30 tag=30 address=10.1.30.1/24
check "h2 learns it" wait_for 10 has_route h2 10.1.30.0/24 2
on h1 shuntctl del-svi vlan30
check "and forgets it" wait_for 10 has_route h2 10.1.30.0/24 0
sent() { sed 's/.*\[\(.*\),.*/\1/' "$@"; }
twice_more() { diff <(sent "$OUT/before" | awk '{print $1 + 2}') <(sessions h1 | sent); }
check "one update to each leaf for either" wait_for 5 twice_more
check "no session went down" diff <(sed 's/, updates.*//' "$OUT/before") <(sessions h1 | sed 's/, updates.*//')
hosts_live
