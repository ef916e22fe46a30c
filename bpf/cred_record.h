/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What crosses the kernel boundary of a change of credentials. tools/generate derives Python's view of it, as of task_record.h:
 * a member has the name that the catalogue gives it, and stands on its natural boundary.
 */
#ifndef CRED_RECORD_H
#define CRED_RECORD_H

#define MAX_CRED_GROUPS 32	/* as many supplementary groups are shown; ngroups tells how many there are */

struct cred_values {
	u32 user;
	u32 uid;
	u32 euid;
	u32 suid;
	u32 fsuid;
	u32 gid;
	u32 egid;
	u32 sgid;
	u32 fsgid;
	u32 securebits;
	u32 user_ns;
	u32 ngroups;
	u64 cap_inheritable;
	u64 cap_permitted;
	u64 cap_effective;
	u64 cap_bset;
	u64 cap_ambient;
	u32 groups[MAX_CRED_GROUPS];
};

struct cred_change {
	u32 size;		/* sizeof(struct cred_change) */
	u32 pid;		/* ids in the asked namespace */
	u32 tgid;
	u32 host_pid;		/* ids in the reader's */
	u32 host_tgid;
	u32 pad;
	u64 time;		/* ns, monotonic: of the change, or when it was seen */
	u64 start_boottime;
	u8 comm[TASK_COMM_LEN];
	struct cred_values old;
	struct cred_values new;
};

/* What user space sets, and what it gets back. */
struct cred_options {
	u32 root;		/* id in the reader's namespace of the process whose tree is watched; 0: all of the namespace */
	u32 pad;
	u64 dropped;		/* changes that found no room, or of which could not be told whether they belong to the tree */
	u64 replaced;		/* where switches are followed: replaced by equal ones within a turn, and not by an execve */
};

/* The one element of the map `watched`. */
struct cred_watch {
	struct asked asked;
	struct cred_options options;
};

#endif
