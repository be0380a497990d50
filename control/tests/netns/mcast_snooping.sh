# Does multicast go only to those who joined, once a bridge snoops, and do real hosts' joins and leaves count?
. "$(dirname "$0")/_init.sh"
for c in c1 c2 c3 c4; do container $c; done
addresses c1 eth0 10.0.0.1/24; addresses c2 eth0 10.0.0.2/24; addresses c3 eth0 10.0.0.3/24
start_shuntd
shuntctl add-br br0
for c in c1 c2 c3; do shuntctl add-port br0 $c tag=10; done
shuntctl add-port br0 c4 tag=20

# join NS GROUP: a process that is a member of the group until it is killed; JOINED is its PID.
join() {
    ip netns exec "$1" python3 -c 'import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
member = socket.socket(family, socket.SOCK_DGRAM)
index = socket.if_nametoindex("eth0").to_bytes(4, sys.byteorder)
if family == socket.AF_INET:
    member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(sys.argv[1]) + bytes(4) + index)
else:
    member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(family, sys.argv[1]) + index)
time.sleep(600)' "$2" & JOINED=$!
}
listed() { shuntctl mdb/show br0 | awk -v p="$(shuntctl get Interface "$1" ofport)" -v g="$2" '$1 == p && $2 == 10 && $3 == g {f = 1} END {exit !f}'; }
unlisted() { ! listed "$@"; }
sees() { # FROM WHO…: a datagram to 239.1.1.1 arrives at exactly these
    local from=$1 who; shift
    local before=(); for who in c1 c2 c3 c4; do before+=("$(counter $who .tx_packets)"); done
    in_ns "$from" python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("'"$(in_ns "$from" ip -4 -o addr show eth0 | awk '{sub(/\/.*/, "", $4); print $4}')"'"))
[s.sendto(b"shunt", ("239.1.1.1", 5000)) for _ in range(100)]'
    local i=0; for who in c1 c2 c3 c4; do
        local got=$(($(counter $who .tx_packets) - before[i]))
        if [[ " $* " == *" $who "* ]]; then
            [ $got -ge 100 ] || { echo "$who got $got of 100"; return 1; }
        else
            [ $got -lt 50 ] || { echo "$who got $got, it did not ask"; return 1; }
        fi
        i=$((i + 1))
    done
}

say "without snooping everybody in the VLAN gets it"
check "c2 and c3" wait_for 5 sees c1 c2 c3
refused 1 'multicast snooping is disabled' shuntctl mdb/show br0
refused 1 'no such bridge' shuntctl mdb/show nowhere

say "with snooping, those who joined"
shuntctl set Bridge br0 mcast_snooping_enable=true
check "the heading is Open vSwitch's" bash -c "shuntctl mdb/show br0 | head -1 | grep -qx ' port  VLAN  GROUP                Age'"
check "nobody has joined: everybody" wait_for 5 sees c1 c2 c3
join c2 239.1.1.1; FIRST=$JOINED
check "c2's report is learned" wait_for 5 listed c2 239.1.1.1
check "only c2" wait_for 5 sees c1 c2
traced() { shuntctl trace br0 "in_port=c1,dl_src=02:00:00:00:00:01,dl_dst=01:00:5e:$1,udp,nw_src=10.0.0.1,nw_dst=$2" >"$OUT/traced"; grep -qE -- "^  snoop     $3" "$OUT/traced" || { cat "$OUT/traced"; return 1; }; }
check "a trace tells who joined" traced 01:01:01 239.1.1.1 "members of 239.1.1.1 are on c2$"
check "and that nobody has" traced 01:01:02 239.1.1.2 "nobody has joined 239.1.1.2: it goes to all"
check "or that it is for the link" traced 00:00:01 224.0.0.1 "a group of the link: it goes to all"
join c3 ff05::1:3
check "an IPv6 group too" wait_for 5 listed c3 ff05::1:3
check "as JSON" bash -c "shuntctl --format=json mdb/show br0 | jq -e 'any(.[]; .port == \"c2\" and .vlan == 10 and .group == \"239.1.1.1\" and (.querier | not) and .age_s < 60)'"

say "a port that floods, and the other way"
shuntctl set Port c3 other_config:mcast-snooping-flood=true
check "c3 gets all groups" wait_for 5 sees c1 c2 c3
shuntctl remove Port c3 other_config mcast-snooping-flood
check "c3 no longer" wait_for 5 sees c1 c2

say "leaving"
kill $FIRST; wait $FIRST 2>/dev/null || true
check "c2's leave is learned" wait_for 10 unlisted c2 239.1.1.1
shuntctl set Bridge br0 other_config:mcast-snooping-disable-flood-unregistered=true
check "nobody wants it, nobody gets it" wait_for 5 sees c1
check "and it is counted" wait_for 5 dropped c1 no_listener 50

say "a port that changes is forgotten, and so is all after mdb/flush"
join c2 239.1.1.1
check "c2 is back" wait_for 5 listed c2 239.1.1.1
shuntctl set Port c2 tag=20
check "c2 is in another VLAN" unlisted c2 239.1.1.1
shuntctl set Port c2 tag=10
join c3 239.1.1.1
check "c3 joins" wait_for 5 listed c3 239.1.1.1
flushed() { shuntctl mdb/flush br0; unlisted c3 239.1.1.1; } # hosts repeat their reports
check "mdb/flush: c3 is gone" wait_for 15 flushed
check "mdb/flush of all bridges" shuntctl mdb/flush
shuntctl set Bridge br0 mcast_snooping_enable=false
check "snooping off: everybody" wait_for 5 sees c1 c2 c3
