# Can a tag that the container's device carries beside the frame (txvlan) slip a frame into the native VLAN?
#
# A bridge inside the container forwards tagged frames with the tag in the packet's metadata, where XDP does not see it:
# the same happens with VLAN sub-interfaces. `nested:far0` is the far side of that bridge.
. "$(dirname "$0")/_init.sh"
container nested; container c10; container c20
in_ns nested ip link add inner type veth peer name far0
in_ns nested ip link add nested-br type bridge mcast_snooping 0
for d in inner eth0; do in_ns nested ip link set $d master nested-br up; done
in_ns nested ip link set far0 up; in_ns nested ip link set nested-br up
in_ns nested ethtool -K eth0 txvlan on tx-vlan-stag-hw-insert on

start_shuntd
shuntctl add-br br0 -- add-port br0 c10 tag=10 -- add-port br0 c20 tag=20
say "on a trunk the tag must arrive, or the port be refused: never VLAN 10 by way of the native VLAN"
shuntctl add-port br0 nested vlan_mode=native-untagged tag=10 || [ $? = 65 ]
if no_error nested; then
    check "txvlan is off in the container" bash -c "ip netns exec nested ethtool -k eth0 | grep -q 'tx-vlan-offload: off'"
    probes <<END
nested:far0 untagged   -> c10=untagged
nested:far0 20         -> c20=untagged
nested:far0 30         -> nobody
nested:far0 ad20       -> c20=untagged
END
else
    check "the error names txvlan" has_error nested 'txvlan|tx-vlan'
    probes <<END
nested:far0 20         -> nobody
END
fi
say "on an access port a tagged frame is dropped, hidden or not"
shuntctl del-port nested
in_ns nested ethtool -K eth0 txvlan on tx-vlan-stag-hw-insert on
shuntctl add-port br0 nested tag=10 || [ $? = 65 ]
probes <<END
nested:far0 20         -> nobody
nested:far0 10         -> nobody
nested:far0 untagged   -> c10=untagged
END
