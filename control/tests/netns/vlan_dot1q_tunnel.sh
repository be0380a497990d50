# Does a dot1q-tunnel port carry its customer's tags inside a service tag?
. "$(dirname "$0")/_init.sh"
container c1; container c2; container some; container other
uplink
start_shuntd
shuntctl add-br br0 -- add-port br0 eth0 trunks=100,200
for c in c1 c2; do shuntctl add-port br0 $c vlan_mode=dot1q-tunnel tag=100; done
shuntctl add-port br0 some vlan_mode=dot1q-tunnel tag=100 cvlans=10,11
shuntctl add-port br0 other vlan_mode=dot1q-tunnel tag=200

say "service tag outside (802.1ad), customer tag inside; 'some' takes customer VLANs 10 and 11 only"
probes <<END
c1   10         -> c2=10 some=10 leaf=ad100/10
c1   12         -> c2=12 leaf=ad100/12
c1   untagged   -> c2=untagged leaf=ad100
some 11         -> c1=11 c2=11 leaf=ad100/11
some 12         -> nobody
some untagged   -> nobody
leaf ad100/10   -> c1=10 c2=10 some=10
leaf 100/10     -> c1=10 c2=10 some=10
leaf ad200/10   -> other=10
leaf ad300/10   -> nobody
other 10        -> leaf=ad200/10
END
check "the drops have their reason" dropped some ingress_cvlan 2

say "the service tag may be an 802.1Q one"
for p in c1 eth0; do shuntctl set Port $p other_config:qinq-ethtype=802.1q; done
probes <<END
c1   10         -> c2=10 some=10 leaf=100/10
END
shuntctl del-port c1
probes <<END
leaf 100/10     -> c2=10 some=10
END
