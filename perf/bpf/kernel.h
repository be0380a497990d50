/* SPDX-License-Identifier: Apache-2.0 */
/* What of the kernel's BPF interface do the programs of this folder need? (Helper numbers: enum bpf_func_id.) */
#pragma once

#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define MAP_UINT(name, value) int (*name)[value]
#define INLINE static inline __attribute__((always_inline))

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*const bpf_xdp_adjust_tail)(struct xdp_md *ctx, int delta) = (void *)BPF_FUNC_xdp_adjust_tail;

/* The first two octets of every address the generator uses; the third is the side it belongs to. */
#define OUI_FIRST 0x02
#define OUI_SECOND 0x53

/* Where the time of sending stands, behind Ethernet (and tag), IPv4 and UDP; 0 in a frame that is no sample. */
#define STAMP_OFFSET(l3) ((l3) + 28)
