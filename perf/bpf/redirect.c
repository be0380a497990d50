/* SPDX-License-Identifier: Apache-2.0 */
/* What is the least the kernel can do between two veths? Every frame goes to the other device, nothing is looked at. */
#include "kernel.h"

const volatile __u32 TARGET_IFINDEX = 0;

SEC("xdp.frags")
int forward(struct xdp_md *ctx)
{
	(void)ctx;
	return bpf_redirect(TARGET_IFINDEX, 0);
}

char LICENSE[] SEC("license") = "Apache-2.0";
