# Does a native-tagged port take untagged frames into its native VLAN, and send that VLAN tagged?
. "$(dirname "$0")/_init.sh"
container c10; container c20; container c30
uplink
start_shuntd
shuntctl add-br br0 -- add-port br0 c10 tag=10 -- add-port br0 c20 tag=20 -- add-port br0 c30 tag=30
shuntctl add-port br0 eth0 vlan_mode=native-tagged tag=10 trunks=20
probes <<END
leaf untagged   -> c10=untagged
leaf 0p3        -> c10=untagged
leaf 10         -> c10=untagged
leaf 20         -> c20=untagged
leaf 30         -> nobody
c10  untagged   -> leaf=10
c20  untagged   -> leaf=20
c30  untagged   -> nobody
END
check "the drop has its reason" dropped eth0 ingress_vlan 1

say "another native VLAN"
shuntctl set Port eth0 tag=30
probes <<END
leaf untagged   -> c30=untagged
leaf 10         -> nobody
c30  untagged   -> leaf=30
c10  untagged   -> nobody
END
