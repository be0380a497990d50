# Does the OpenSwitch lab run with shunt as all three switches: ports that come late, addresses by vtysh, eBGP in a row, ttl 63?
#
#   a ── net101 ── 1 ops1 2 ── net102 ── 1 ops2 2 ── net103 ── 1 ops3 2 ── net104 ── b
. "$(dirname "$0")/_init.sh"
. "$HERE/_lab.sh"
shunt_host ops1 ops2 ops3
for n in 1 2 3; do
    in_ns ops$n sysctl -qw net.ipv4.ip_forward=1
    for port in 1 2; do
        refused 65 "$port" on ops$n shuntctl add-br p$port -- add-svi p$port p$port -- add-port p$port $port -- set Port $port other_config:uplink=true
    done
    frr ops$n <<<'frr defaults traditional'
done

say "the ports appear under another name, and become what the switches wait for"
# cable NUMBER OF A PORT, AND OF THE OTHER: two ends called as a container engine does, renamed as the lab does.
cable() {
    ip link add "eth$1$2" type veth peer name "eth$3$4"
    local end; for end in "$1 $2" "$3 $4"; do
        read -r machine port <<<"$end"
        ip link set "eth$machine$port" down
        ip link set "eth$machine$port" name "$port"
        ip link set "$port" netns "$machine"
        ip -n "$machine" link set "$port" up
    done
}
for n in 1 2; do cable ops$n 2 ops$((n + 1)) 1; done
for m in a b; do namespace $m; done
cable ops1 1 a 0; cable ops3 2 b 0
attached() { [ "$(on "$1" shuntctl get Interface "$2" error)" = "[]" ] && on "$1" shuntctl get Interface "$2" status:xdp-mode; }
for n in 1 2 3; do for port in 1 2; do check "ops$n has its port $port" wait_for 10 attached ops$n $port; done; done

say "conf t"
vty_lines() { # MACHINE, commands on stdin
    local arguments=() line; while read -r line; do arguments+=(-c "$line"); done
    in_ns "$1" vtysh -N "$1" "${arguments[@]}"
}
for n in 1 2 3; do
    left=192.168.10$n right=192.168.10$((n + 1))
    {
        printf '%s\n' 'configure terminal' "hostname ops$n" \
            'interface p1' 'no shutdown' "ip address $left.$((n == 1 ? 1 : 2))/24" exit \
            'interface p2' 'no shutdown' "ip address $right.1/24" exit \
            "router bgp 6500$n" 'no bgp ebgp-requires-policy' "bgp router-id $n.$n.$n.$n" "network $left.0/24" "network $right.0/24" 'timers bgp 3 9'
        [ $n = 1 ] || printf '%s\n' "neighbor $left.1 remote-as 6500$((n - 1))" "neighbor $left.1 timers connect 1"
        [ $n = 3 ] || printf '%s\n' "neighbor $right.2 remote-as 6500$((n + 1))" "neighbor $right.2 timers connect 1"
    } | vty_lines ops$n >"$OUT/ops$n.vty" || fail "vtysh of ops$n: $(cat "$OUT/ops$n.vty")"
done
addresses a 0 192.168.101.100/24; ip -n a route add default via 192.168.101.1
addresses b 0 192.168.104.100/24; ip -n b route add default via 192.168.104.1
check "ops1 has its session" wait_for 40 established ops1 1
check "ops2 has two" wait_for 40 established ops2 2
check "ops3 has one" wait_for 40 established ops3 1
check "ops1 knows all networks" wait_for 20 has_route ops1 192.168.104.0/24
check "and so does ops3" wait_for 20 has_route ops3 192.168.101.0/24
vty ops1 'show ip bgp'
check "ops1 sees the last network through both others" bash -c "ip netns exec ops1 vtysh -N ops1 -c 'show ip bgp' | grep -q '192.168.104.0/24 .*65002 65003 i'"
check "ops1 reaches ops3 with ttl 63: one hop" hops ops1 1 192.168.103.2
check "a reaches b with ttl 61: three" can_ping a 192.168.104.100
check "each hop takes one" hops a 3 192.168.104.100
by_workers ops2 transfer a b 192.168.104.100
on ops2 shuntctl interface brief | tee "$OUT/brief"
check "interface brief has the columns of the lab" grep -qE '^Interface +VLAN +Type +Mode +Status +Reason +Speed.* +Port channel' "$OUT/brief"
for port in 1 2 p1 p2; do check "$port is up there" grep -qE "^$port +.* up +none " "$OUT/brief"; done

say "shut, no shut"
vty_lines ops2 >/dev/null <<<$'configure terminal\ninterface p2\nshutdown'
check "ops1 forgets what was behind it" wait_for 20 has_route ops1 192.168.104.0/24 0
reaches_not a 192.168.104.100
vty_lines ops2 >/dev/null <<<$'configure terminal\ninterface p2\nno shutdown'
check "and learns it again" wait_for 40 has_route ops1 192.168.104.0/24
reaches a 192.168.104.100
hosts_live
