/* SPDX-License-Identifier: Apache-2.0 */
/* Which frame comes next, and is it due? Runs under BPF_PROG_TEST_RUN with live frames: each call is one frame, made
 * from a page that holds the template (or what a switch has left of an earlier frame), sent by redirecting it to a device. */
#include "kernel.h"

/* Frames of one pattern of sizes: enough for IMIX. */
#define PATTERN_MAX 12

/* Set by the loader before the verifier sees the program. */
const volatile __u32 TARGET_IFINDEX = 0;
const volatile __u32 FLOWS = 1;
const volatile __u32 MACS = 1;
/* Number of frames after which no more are sent; 0 is none. */
const volatile __u64 FRAMES_MAX = 0;
/* Each so manieth frame carries the time of its sending; 0 is none. */
const volatile __u64 SAMPLE_EVERY = 0;
/* Both addresses, EtherType, and the rest of a tag: the part that switches may shift. */
const volatile __u16 ETHERNET[9] = { 0 };
/* Where the IP header begins: 14, or 18 behind a tag. */
const volatile __u32 L3 = 14;
/* Sizes in octets, in turn, and the IP checksum of each; the template is as long as the longest. */
const volatile __u32 PATTERN_LEN = 1;
const volatile __u16 SIZES[PATTERN_MAX] = { 0 };
const volatile __u16 CHECKSUMS[PATTERN_MAX] = { 0 };

/* A paced generator that is held up by less than this catches up; the rest is forgotten. In 1/1024 ns. */
#define CATCH_UP_MAX (50000ull << 10)
#define HELD (~0ull)

struct state {
	__u64 sent;
	__u64 next_due; /* 1/1024 ns; 0 before the first frame */
	__u64 flow;
	__u64 mac;
	__u64 size;
	__u64 until_sample;
};

/* One generator, one core: no per-CPU map needed. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_UINT(max_entries, 1);
	__u32 *key;
	struct state *value;
} STATE SEC(".maps");

struct control {
	/* Time between frames in 1/1024 ns; 0 is flat out, HELD is none at all. */
	__u64 interval;
	/* Not zero: the rest of the run is thrown away, so that a long run ends soon after it is told to. */
	__u64 stop;
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_UINT(max_entries, 1);
	__u32 *key;
	struct control *value;
} CONTROL SEC(".maps");

INLINE int is_due(struct state *state, __u64 interval)
{
	if (!interval)
		return 1;
	if (interval == HELD) {
		state->next_due = 0;
		return 0;
	}
	__u64 now = bpf_ktime_get_ns() << 10;
	if (now < state->next_due)
		return 0;
	__u64 from = state->next_due;
	if (now - from > CATCH_UP_MAX)
		from = now;
	state->next_due = from + interval;
	return 1;
}

INLINE void put_index(__u8 *mac, __u32 index)
{
	mac[3] = index >> 16;
	mac[4] = index >> 8;
	mac[5] = index;
}

INLINE void put_ethernet(__u8 *frame, __u32 mac)
{
	__u16 *words = (void *)frame;
	for (__u32 i = 0; i < 7; i++)
		words[i] = ETHERNET[i];
	if (L3 == 18) {
		words[7] = ETHERNET[7];
		words[8] = ETHERNET[8];
	}
	put_index(frame, mac);
	put_index(frame + 6, mac);
}

INLINE void put_flow(__u8 *ip, __u32 flow)
{
	/* Low half of the source address x and of the destination ~x: their sum in the IP checksum stays the same. */
	*(__u16 *)(ip + 14) = flow;
	*(__u16 *)(ip + 18) = ~flow;
	/* UDP ports; the UDP checksum is 0, "none". */
	*(__u16 *)(ip + 20) = flow;
	*(__u16 *)(ip + 22) = flow >> 4;
}

/* Cuts the frame to the next size of the pattern; returns 0 if the kernel would not. */
INLINE int put_size(struct xdp_md *ctx, struct state *state)
{
	__u32 at = state->size;
	if (at >= PATTERN_MAX)
		return 0;
	state->size = at + 1 >= PATTERN_LEN ? 0 : at + 1;
	__u32 size = SIZES[at];
	int surplus = ctx->data_end - ctx->data - size;
	if (surplus > 0 && bpf_xdp_adjust_tail(ctx, -surplus))
		return 0;
	__u8 *frame = (void *)(long)ctx->data;
	__u8 *ip = frame + L3;
	if ((void *)(ip + 28) > (void *)(long)ctx->data_end)
		return 0;
	*(__u16 *)(ip + 2) = __builtin_bswap16(size - L3);
	*(__u16 *)(ip + 10) = CHECKSUMS[at];
	*(__u16 *)(ip + 24) = __builtin_bswap16(size - L3 - 20);
	return 1;
}

INLINE __u64 stamp(struct state *state)
{
	if (!SAMPLE_EVERY)
		return 0;
	if (state->until_sample > 1) {
		state->until_sample--;
		return 0;
	}
	state->until_sample = SAMPLE_EVERY;
	return bpf_ktime_get_ns();
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct state *state = bpf_map_lookup_elem(&STATE, &zero);
	struct control *control = bpf_map_lookup_elem(&CONTROL, &zero);
	if (!state || !control || control->stop)
		return XDP_DROP;
	if (FRAMES_MAX && state->sent >= FRAMES_MAX)
		return XDP_DROP;
	if (!is_due(state, control->interval))
		return XDP_DROP;
	if (PATTERN_LEN > 1 && !put_size(ctx, state))
		return XDP_DROP;

	__u8 *frame = (void *)(long)ctx->data;
	if ((void *)(frame + STAMP_OFFSET(L3) + 8) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	__u32 flow = state->flow;
	__u32 mac = state->mac;
	state->flow = flow + 1 >= FLOWS ? 0 : flow + 1;
	state->mac = mac + 1 >= MACS ? 0 : mac + 1;
	state->sent++;

	put_ethernet(frame, mac);
	put_flow(frame + L3, flow);
	/* A router has counted the page's last frame down. */
	frame[L3 + 8] = 64;
	if (PATTERN_LEN == 1)
		*(__u16 *)(frame + L3 + 10) = CHECKSUMS[0];
	*(__u64 *)(frame + STAMP_OFFSET(L3)) = stamp(state);
	return bpf_redirect(TARGET_IFINDEX, 0);
}

char LICENSE[] SEC("license") = "Apache-2.0";
