# Can bridges share the uplink by VLAN (`eth0.181`), while the host keeps its own address and its session on it?
. "$(dirname "$0")/_init.sh"
uplink
addresses host eth0 10.9.0.1/24
addresses leaf swp1 10.9.0.2/24
container c1 10.0.0.1/24; container c2 10.0.0.2/24; container tagged
frames session 0.0.0.0 22 --listen &
wait_for 5 listening host 22
ip netns exec leaf "$HERE/frames.py" session 10.9.0.1 22 >"$OUT/session" 2>&1 & SESSION=$!
alive() { # the session gets on by ten lines from here
    local from; from=$(wc -l <"$OUT/session")
    wait_for 5 further "$((from + 10))" && kill -0 $SESSION
}
further() { [ "$(wc -l <"$OUT/session")" -ge "$1" ]; }
check "somebody works on the host over eth0" alive

start_shuntd
shuntctl add-br br-vlan181; shuntctl add-br br-vlan182
shuntctl add-port br-vlan181 eth0.181
check "the session lives on after eth0.181 was attached" alive
shuntctl add-port br-vlan182 eth0.182
shuntctl add-port br-vlan181 c1 -- add-port br-vlan182 c2 -- add-port br-vlan181 tagged
refute "there is a kernel device eth0.181" ip link show eth0.181
probes <<END
c1   untagged   -> leaf=181 tagged=untagged
c2   untagged   -> leaf=182
leaf 181        -> c1=untagged tagged=untagged
leaf 182        -> c2=untagged
leaf 181p5      -> c1=untagged tagged=untagged
leaf 183        -> host:eth0=183                  # nobody claims it: the kernel's
leaf untagged   -> host:eth0=untagged
tagged 10       -> leaf=181/10 c1=10
leaf 181/10     -> c1=10 tagged=10
END
leaf_vlans 181=10.0.0.3/24
reaches c1 10.0.0.3
reaches_not c1 10.0.0.2
check "the session is alive" alive
refused 1 'eth0.181.*already exists on bridge br-vlan181' shuntctl add-port br-vlan182 eth0.181

say "detached, VLAN 181 is the kernel's again; 182 has noticed nothing"
for i in 1 2 3 4 5; do shuntctl del-port br-vlan181 eth0.181; shuntctl add-port br-vlan181 eth0.181; done
can_ping c1 10.0.0.3
shuntctl del-port br-vlan181 eth0.181
probes <<END
leaf 181        -> host:eth0=181
leaf 182        -> c2=untagged
c1   untagged   -> tagged=untagged
END
check "the session is alive" alive
shuntctl del-br br-vlan182
check "the session survives the last sub-port" alive
refute "eth0 still has a program" has_xdp eth0
