# How does a story get a fabric: hosts h1 and h2, each on leaf1 and leaf2, both leaves on spine1 and spine2? Sourced after `_lab.sh`.
#
# A device is named for the machine that it leads to; on hosts they are eth0 (leaf1) and eth1 (leaf2). Host N has AS 6500N and the
# networks 10.N.10.0/24 and 10.N.20.0/24, leaf N AS 6510N, the spines AS 65100. Between h and leaf N are 10.0.hN.0/31. shellcheck shell=bash
router() { namespace "$1"; in_ns "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.fib_multipath_hash_policy=1; }
wires() { # numbered|unnumbered
    local h l s
    for l in 1 2; do
        router "leaf$l"
        for h in 1 2; do
            wire "h$h" "eth$((l - 1))" "leaf$l" "h$h"
            [ "$1" = unnumbered ] || ip -n "leaf$l" addr add "10.0.$h$l.0/31" dev "h$h"
        done
    done
    for s in 1 2; do
        router "spine$s"
        for l in 1 2; do wire "spine$s" "leaf$l" "leaf$l" "spine$s"; done
    done
}
# The switches' frr.conf. Toward hosts by address or by interface, between switches by interface.
switch_conf() { # NAME AS ROUTER-ID NEIGHBOR…
    local name=$1 as=$2 id=$3 n by; shift 3
    cat <<END
frr defaults datacenter
hostname $name
router bgp $as
 bgp router-id $id
 bgp bestpath as-path multipath-relax
 neighbor PEER peer-group
 neighbor PEER remote-as external
 neighbor PEER timers 3 9
 neighbor PEER timers connect 1
 neighbor PEER bfd 3 300 300
END
    for n; do
        by=; [[ $n == *.* ]] || by=' interface'
        printf ' neighbor %s%s peer-group PEER\n' "$n" "$by"
    done
    printf ' address-family ipv6 unicast\n  neighbor PEER activate\n exit-address-family\n'
}
# host_conf N BLOCK: the configuration that docs/routing.md has for h1, for host N.
host_conf() { doc "$2" | sed "$(for_host "$1")"; }
for_host() { echo "s/h1\$/h$1/; s/65001/6500$1/; s/10\.255\.0\.1/10.255.0.$1/; s/10\.1\./10.$1./; s/10\.0\.1\([12]\)\./10.0.$1\1./; s/db8:1:/db8:$1:/"; }
fabric() { # numbered|unnumbered
    local n
    for n in 1 2; do switch_conf "spine$n" 65100 "10.255.2.$n" leaf1 leaf2 | frr "spine$n"; done
    for n in 1 2; do leaf $n "$1"; done
}
leaf() { # N numbered|unnumbered
    local peers=(h1 h2)
    [ "$2" = unnumbered ] || peers=("10.0.1$1.1" "10.0.2$1.1")
    switch_conf "leaf$1" "6510$1" "10.255.1.$1" "${peers[@]}" spine1 spine2 | frr "leaf$1"
}
# host_ports N: host N's uplinks, its VLANs, and a container in each: cN in VLAN 10, dN in VLAN 20.
host_ports() {
    doc_on "h$1" sysctl
    doc_on "h$1" uplinks
    on "h$1" shuntctl set Port eth0 other_config:uplink=true -- set Port eth1 other_config:uplink=true
    doc_on "h$1" vlans "$(for_host "$1")"
    guest "h$1" "c$1" "10.$1.10.11/24" "10.$1.10.1" "2001:db8:$1:10::11/64" "2001:db8:$1:10::1"
    guest "h$1" "d$1" "10.$1.20.11/24" "10.$1.20.1" "2001:db8:$1:20::11/64" "2001:db8:$1:20::1"
    on "h$1" shuntctl add-port br0 "c$1" tag=10 -- add-port br0 "d$1" tag=20
}
