# Do trunk ports carry the VLANs that they list, and no others?
. "$(dirname "$0")/_init.sh"
container c10; container c20; container c30; container any
uplink
start_shuntd
shuntctl add-br br0 -- add-port br0 eth0 trunks=10,20 \
    -- add-port br0 c10 tag=10 -- add-port br0 c20 tag=20 -- add-port br0 c30 tag=30 -- add-port br0 any

say "eth0 carries 10 and 20; 'any' has no tag and no trunks, so it carries everything"
probes <<END
c10  untagged   -> leaf=10 any=10
c20  untagged   -> leaf=20 any=20
c30  untagged   -> any=30
leaf 10         -> c10=untagged any=10
leaf 20p5       -> c20=untagged any=20p5
leaf 30         -> nobody
leaf untagged   -> nobody                    # listed trunks leave VLAN 0 out
leaf 0p3        -> nobody
any  10p7       -> c10=untagged leaf=10p7
any  untagged   -> nobody
any  10/20      -> leaf=10/20                # an access port shows no inner tags
any  4095       -> nobody
END
check "the drops have their reason" dropped eth0 ingress_vlan 3

say "the list changes while it runs"
shuntctl set Port eth0 trunks=30
probes <<END
c10  untagged   -> any=10
c30  untagged   -> leaf=30 any=30
leaf 30         -> c30=untagged any=30
leaf 10         -> nobody
END
shuntctl add Port eth0 trunks 10
shuntctl remove Port eth0 trunks 30
probes <<END
c10  untagged   -> leaf=10 any=10
c30  untagged   -> any=30
END
say "no list: all VLANs, and VLAN 0 untagged"
shuntctl clear Port eth0 trunks
probes <<END
leaf untagged   -> any=untagged
leaf 0          -> any=untagged
any  untagged   -> leaf=untagged
c20  untagged   -> leaf=20 any=20
END
shuntctl del-port br0 eth0
probes <<END
c20  untagged   -> any=20
leaf 20         -> nobody
END
