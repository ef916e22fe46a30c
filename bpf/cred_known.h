/* SPDX-License-Identifier: GPL-2.0-only */
/* What cred_watch.bpf.c keeps for each task that it follows: where it hangs on commit_creds it follows none. */
#ifndef CRED_KNOWN_H
#define CRED_KNOWN_H

#ifdef FOLLOW_SWITCHES
struct known {				/* of a task, since its birth, the first pass or its last report */
	u64 cred;
	u64 group_info;
	u64 exec_id;
	u32 pid;			/* ids as they were then: at its last switch it may have none any more */
	u32 tgid;
	u32 host_pid;
	u32 host_tgid;
	struct cred_values values;
};
#define TASK_MEMORY struct known
#endif

#endif
