/* SPDX-License-Identifier: Apache-2.0 */
/* Which frame comes next, and is it due? Runs under BPF_PROG_TEST_RUN with live frames: each call is one frame, made
 * from a page that holds the template (or this program's last frame), sent by redirecting it to a device. */
#include "kernel.h"

/* Set by the loader before the verifier sees the program. */
const volatile __u32 TARGET_IFINDEX = 0;
const volatile __u32 FLOWS = 1;
const volatile __u32 MACS = 1;
/* Time between frames in 1/1024 ns; 0 is flat out. */
const volatile __u64 INTERVAL = 0;
/* Number of frames after which no more are sent; 0 is none. */
const volatile __u64 FRAMES_MAX = 0;

/* A paced generator that was held up sends at most this much late traffic in one go, 1/1024 ns. */
#define CATCH_UP_MAX (100000ull << 10)

struct state {
	__u64 sent;
	__u64 next_due; /* 1/1024 ns; 0 before the first frame */
	__u64 flow;
	__u64 mac;
};

/* One generator, one core: no per-CPU map needed. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_UINT(max_entries, 1);
	__u32 *key;
	struct state *value;
} STATE SEC(".maps");

/* Not zero: the rest of the run is thrown away, so that a long run ends soon after it is told to. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_UINT(max_entries, 1);
	__u32 *key;
	__u32 *value;
} STOP SEC(".maps");

static inline __attribute__((always_inline)) int is_due(struct state *state)
{
	if (!INTERVAL)
		return 1;
	__u64 now = bpf_ktime_get_ns() << 10;
	if (now < state->next_due)
		return 0;
	__u64 from = state->next_due;
	if (!from || now - from > CATCH_UP_MAX)
		from = now - (from ? CATCH_UP_MAX : 0);
	state->next_due = from + INTERVAL;
	return 1;
}

static inline __attribute__((always_inline)) void put_index(__u8 *mac, __u32 index)
{
	mac[3] = index >> 16;
	mac[4] = index >> 8;
	mac[5] = index;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u8 *frame = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 zero = 0;

	struct state *state = bpf_map_lookup_elem(&STATE, &zero);
	__u32 *stop = bpf_map_lookup_elem(&STOP, &zero);
	if (!state || !stop || *stop || (void *)(frame + 42) > end)
		return XDP_DROP;
	if (FRAMES_MAX && state->sent >= FRAMES_MAX)
		return XDP_DROP;
	if (!is_due(state))
		return XDP_DROP;

	__u32 flow = state->flow;
	__u32 mac = state->mac;
	state->flow = flow + 1 >= FLOWS ? 0 : flow + 1;
	state->mac = mac + 1 >= MACS ? 0 : mac + 1;
	state->sent++;

	put_index(frame, mac);
	put_index(frame + 6, mac);
	/* Low half of the source address x and of the destination ~x: their sum in the IP checksum stays the same. */
	*(__u16 *)(frame + 28) = flow;
	*(__u16 *)(frame + 32) = ~flow;
	/* UDP ports; the UDP checksum is 0, "none". */
	*(__u16 *)(frame + 34) = flow;
	*(__u16 *)(frame + 36) = flow >> 4;
	return bpf_redirect(TARGET_IFINDEX, 0);
}

char LICENSE[] SEC("license") = "Apache-2.0";
