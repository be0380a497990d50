# What becomes of priority tags (VID 0), going in and coming out?
. "$(dirname "$0")/_init.sh"
container c1; container c2; container trunk; container plain
uplink
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 tag=10 -- add-port br0 c2 tag=10 -- add-port br0 trunk \
    -- add-port br0 eth0 vlan_mode=native-untagged tag=10

say "going in, VID 0 is the native VLAN, and the priority is kept; coming out there is no such tag"
probes <<END
c1    0p5        -> c2=untagged leaf=untagged trunk=10p5
leaf  0p5        -> c1=untagged c2=untagged trunk=10p5
trunk 10p5       -> c1=untagged c2=untagged leaf=untagged
END
say "priority-tags=if-nonzero: the tag stays where it says something"
shuntctl set Port c2 other_config:priority-tags=if-nonzero -- set Port eth0 other_config:priority-tags=if-nonzero
probes <<END
c1    0p5        -> c2=0p5 leaf=0p5 trunk=10p5
c1    untagged   -> c2=untagged leaf=untagged trunk=10
END
say "a tag that says nothing at all goes, unless priority-tags=always; none is made up"
shuntctl add-port br0 plain
probes <<END
plain 0          -> trunk=untagged
END
shuntctl set Port trunk other_config:priority-tags=always
probes <<END
plain 0          -> trunk=0
plain untagged   -> trunk=untagged
END
say "a tag that goes leaves no runt: what leaves is padded to 60 octets"
capture_start leaf swp1 ether proto 0x88b5
shuntctl remove Port eth0 other_config priority-tags -- del-port plain
probes <<END
c1 0p5 size=46 -> c2=0p5 leaf=untagged trunk=10p5
END
capture_stop
check "60 octets on the wire" test "$(tshark -r "$OUT/wire.pcap" -T fields -e frame.len 2>/dev/null)" = 60
