# Does a native-untagged port send its native VLAN untagged, and take it in either form (an ACI leaf's 802.1p mode)?
. "$(dirname "$0")/_init.sh"
container c10; container c20; container c30; container any
uplink
start_shuntd
shuntctl add-br br0 -- add-port br0 c10 tag=10 -- add-port br0 c20 tag=20 -- add-port br0 c30 tag=30 -- add-port br0 any
shuntctl add-port br0 eth0 vlan_mode=native-untagged tag=10 trunks=20
probes <<END
leaf untagged   -> c10=untagged any=10
leaf 0p3        -> c10=untagged any=10p3
leaf 10         -> c10=untagged any=10
leaf 20         -> c20=untagged any=20
leaf 30         -> nobody
c10  untagged   -> leaf=untagged any=10
c20  untagged   -> leaf=20 any=20
c30  untagged   -> any=30
any  10p5       -> leaf=untagged c10=untagged
END
say "only the native VLAN, once nothing else is listed"
shuntctl set Port eth0 trunks=10
probes <<END
leaf 20         -> nobody
leaf 10         -> c10=untagged any=10
c20  untagged   -> any=20
END
check "the drops have their reason" dropped eth0 ingress_vlan 2
