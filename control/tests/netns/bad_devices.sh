# Is a device that cannot be used refused with the reason, kept with its error (status 65), and taken once it can be?
. "$(dirname "$0")/_init.sh"
container c1 10.0.0.1/24; container c2 10.0.0.2/24; container taken 10.0.0.3/24; container foreign 10.0.0.4/24; container short
start_shuntd
shuntctl add-br br0 -- add-port br0 c1 -- add-port br0 c2

say "a device with a master"
ip link add kernel-br type bridge; ip link set taken master kernel-br
refused 65 'taken.*kernel-br' shuntctl add-port br0 taken
check "kept, with its error" has_error taken kernel-br
ip link set taken nomaster
check "taken as soon as it is free" wait_for 10 no_error taken
reaches c1 10.0.0.3

say "a device with somebody else's XDP program"
printf 'int p(void *c) { return 2; }\nchar l[] __attribute__((section("license"))) = "GPL";\n' |
    sed 's/^int/__attribute__((section("xdp"))) int/' | "${CLANG:-$(compgen -c clang | grep -xE 'clang(-[0-9]+)?' | sort -V | tail -1)}" -O2 -target bpf -x c -c - -o "$OUT/pass.o"
ip link set foreign xdp obj "$OUT/pass.o" sec xdp
refused 65 'foreign.*(XDP|xdp)' shuntctl add-port br0 foreign
check "the other's program is still there" has_xdp foreign
ip link set foreign xdp off
check "taken as soon as it is gone" wait_for 10 no_error foreign
reaches c1 10.0.0.4

say "devices that cannot do it, or are none"
refused 65 'lo' shuntctl add-port br0 lo
check "kept, with its error" has_error lo
shuntctl del-port lo
refused 65 'kernel-br' shuntctl add-port br0 kernel-br
shuntctl del-port kernel-br
refused '(1|65)' 'too-long-for-a-device' shuntctl add-port br0 too-long-for-a-device-name

say "an MTU too large"
refused '(1|65)' 'mtu|MTU' shuntctl set Interface c2 mtu_request=20000
check "the device keeps its own" grep -qx 1500 /sys/class/net/c2/mtu
ip link set short mtu 20000; in_ns short ip link set eth0 mtu 20000
refused 65 'short.*(mtu|MTU)' shuntctl add-port br0 short
ip link set short mtu 1500; in_ns short ip link set eth0 mtu 1500
check "taken once it fits" wait_for 10 no_error short
say "nobody else was disturbed"
reaches c1 10.0.0.2
shuntctl del-port foreign
refute "foreign is still listed" shuntctl port-to-br foreign
reaches_not c1 10.0.0.4
