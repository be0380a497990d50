# How does a story get a Docker engine of its own? Sourced after `_init.sh`: starts one without networks, with the image
# `ubuntu` made of busybox, and removes its control groups in the end. shellcheck shell=bash
D=/run/docker-story; mkdir -p $D/image/bin
GROUP=shunt-story-$$-$RANDOM
export DOCKER_HOST=unix://$D/sock
clean() { # the engine's control groups live outside of this world
    docker ps -aq 2>/dev/null | xargs -r docker rm -f >/dev/null 2>&1 || true
    find /sys/fs/cgroup -depth -type d -path "*/$GROUP*" -exec rmdir {} + 2>/dev/null || true
}
trap 's=$?; clean; finish $s' EXIT
if [ -z "$(ls /sys/fs/cgroup)" ]; then mount -t cgroup2 cgroup2 /sys/fs/cgroup; fi
dockerd --bridge=none --iptables=false --ip6tables=false --cgroup-parent="/$GROUP" --data-root $D/data --exec-root $D/exec \
    --pidfile $D/pid --host "$DOCKER_HOST" >"$OUT/dockerd.log" 2>&1 &
check "a Docker engine of our own" wait_for 30 docker info
cp "$(command -v busybox)" $D/image/bin/
for tool in sh ping ip sleep; do ln -s busybox $D/image/bin/$tool; done
check "an image without a download" bash -c "tar -C $D/image -c . | docker import - ubuntu"
docker_ping() { docker exec "$1" ping -c1 -W1 "$2"; }
docker_reaches() { check "$1 reaches $2" wait_for 5 docker_ping "$1" "$2"; }
