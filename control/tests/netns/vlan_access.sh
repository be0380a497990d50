# Do access ports keep two VLANs of one bridge apart?
. "$(dirname "$0")/_init.sh"
container a1 10.0.0.1/24; container a2 10.0.0.2/24
container b1 10.0.0.3/24; container b2 10.0.0.4/24
start_shuntd
shuntctl add-br br0
for c in a1 a2; do shuntctl add-port br0 $c tag=10; done
shuntctl add-port br0 b1 tag=20 -- add-port br0 b2 tag=20

say "within a VLAN, and not across"
reaches a1 10.0.0.2
reaches b1 10.0.0.4
reaches_not a1 10.0.0.3

say "what an access port takes: untagged and priority-tagged frames; a tag is refused, be it the port's own"
probes <<END
a1 untagged      -> a2=untagged
a1 0p3           -> a2=untagged
a1 10            -> nobody
a1 20            -> nobody
a1 ad10          -> nobody
b2 untagged      -> b1=untagged
END
check "the drops have their reason" dropped a1 tagged_on_access 3

say "a port changes its VLAN while it runs; what was learned about it goes"
mac=$(in_ns a2 cat /sys/class/net/eth0/address)
can_ping a1 10.0.0.2
check "a2's address is known in VLAN 10" learned br0 "$mac" 10 a2
shuntctl set Port a2 tag=20
refute "a2's address is known in VLAN 10" learned br0 "$mac" 10
probes <<END
a1 untagged      -> nobody
b1 untagged      -> b2=untagged a2=untagged
END
reaches a2 10.0.0.3
reaches_not a2 10.0.0.1

say "a port that is gone gets nothing and leaves nothing behind"
shuntctl del-port br0 a2
refute "a2's address is known" learned br0 "$mac" 20
refute "a2's device still has a program" has_xdp a2
reaches_not a2 10.0.0.3
