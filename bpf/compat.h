/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every difference between kernels, in one place. Newest kernel first; each names the commit and the release that made it.
 * HAVE_<struct>_<member> comes from the header tree, which is made from the running kernel's BTF, HAVE_BPF_FUNC_<helper>
 * from its enum bpf_func_id: features are asked for, never inferred from a version.
 */
#ifndef COMPAT_H
#define COMPAT_H

/*
 * One member of a kernel struct, whose address may be computed from one pointer. Iterators and BTF tracepoints follow pointers
 * as C does; what a kprobe or a raw tracepoint gets is no pointer to the verifier, and is read by a helper.
 */
#ifdef UNTRUSTED_POINTERS
#define READ(member) ({ \
	__typeof__(member) value_; \
	bpf_probe_read_kernel((void *)&value_, sizeof(value_), (void *)&(member)); \
	value_; })
#else
#define READ(member) (member)
#endif

/* The current task, by a way that BCC does not follow: it would turn what READ() makes of the pointer into reads of its own. */
static __always_inline struct task_struct *current_task(void)
{
	u64 task;

	asm volatile("" : "=r"(task) : "0"(bpf_get_current_task()));
	return (struct task_struct *)task;
}

/* A length that the verifier can follow: without the barriers clang compares a copy of it, and the bound is lost. */
static __always_inline u64 bounded(u64 length, u64 most)
{
	asm volatile("" : "+r"(length));
	if (length > most)
		length = most;
	asm volatile("" : "+r"(length));
	return length;
}

/* Of linux/sched.h: macros, which BTF does not carry; never changed */
#define PF_KTHREAD 0x00200000
/*
 * __TASK_TRACED, by a name that no kernel's header has. Before 5.19, 2500ad1c7fa4 ("ptrace: Don't change __state"), TASK_WAKEKILL
 * is set beside it, except while a request of ptrace(2) is at work on the task.
 */
#define TASK_TRACED_BIT 0x00000008

/* 5.14, 2f064a59a11f ("sched: Change task_struct::state"): renamed, and 32 bits wide */
#ifdef HAVE_task_struct___state
#define STATE_WORD __state
#else
#define STATE_WORD state
#endif

static __always_inline u64 task_state(struct task_struct *task)
{
	return READ(task->STATE_WORD) | (u32)READ(task->exit_state);
}

/* 5.5, cf25e24db61c ("time: Rename tsk->real_start_time to ->start_boottime") */
static __always_inline u64 task_start_boottime(struct task_struct *task)
{
#ifdef HAVE_task_struct_start_boottime
	return READ(task->start_boottime);
#else
	return READ(task->real_start_time);
#endif
}

/* 5.11, 3136b93c3fb2 ("entry: Expose helpers to migrate TIF to SYSCALL_WORK flags"): split off thread_info.flags */
static __always_inline u64 task_syscall_work(struct task_struct *task, u32 *valid)
{
#ifdef HAVE_thread_info_syscall_work
	*valid |= TASK_HAS_SYSCALL_WORK;
	return READ(task->thread_info.syscall_work);
#else
	return 0;
#endif
}

/* 5.16, bcf9033e5449 ("sched: move CPU field back into thread_info if THREAD_INFO_IN_TASK=y") */
static __always_inline u32 task_cpu_nr(struct task_struct *task)
{
#ifdef HAVE_thread_info_cpu
	return READ(task->thread_info.cpu);
#else
	return READ(task->cpu);
#endif
}

/* 6.3, f122a08b197d ("capability: just use a 'single u64' instead of a 'u32[2]' array") */
#ifdef HAVE_kernel_cap_t_val
#define CAPS(get, set) get((set).val)
#else
#define CAPS(get, set) ((u64)get((set).cap[1]) << 32 | get((set).cap[0]))
#endif
#define READ_CAPS(set) CAPS(READ, set)

static __always_inline void read_seccomp(struct task_struct *task, struct task_record *record)
{
#ifdef HAVE_task_struct_seccomp /* CONFIG_SECCOMP */
	record->seccomp_mode = READ(task->seccomp.mode);
	record->valid |= TASK_HAS_SECCOMP;
#endif
#ifdef HAVE_seccomp_filter_count /* 5.9, c818c03b661c ("seccomp: Report number of loaded filters in /proc/$pid/status") */
	record->seccomp_filters = READ(task->seccomp.filter_count.counter);
	record->valid |= TASK_HAS_SECCOMP_COUNT;
#endif
}

/*
 * CONFIG_VIRT_CPU_ACCOUNTING_GEN, where nohz_full= is in use: what a running task has used since it last entered or left the
 * kernel is in task->vtime, and task_cputime() adds it. 0 is VTIME_INACTIVE: off the cpu all is counted.
 */
static __always_inline u32 task_vtime(struct task_struct *task)
{
#ifdef HAVE_vtime_state
	return READ(task->vtime.state) ? TASK_VTIME : 0;
#else
	return 0;
#endif
}

/*
 * Whether a task waits for a cpu, whatever its state says: a kernel that is preempted may be so on its way into a sleep. Since
 * 6.12, 152e11f6df29 ("sched/fair: Implement delayed dequeue"), who sleeps may stay on the queue for a while.
 */
static __always_inline bool task_queued(struct task_struct *task)
{
#ifdef HAVE_sched_entity_sched_delayed
	return READ(task->on_rq) && !READ(task->se.sched_delayed);
#else
	return READ(task->on_rq);
#endif
}

static __always_inline void read_accounting(struct task_struct *task, struct task_record *record)
{
#ifdef HAVE_sched_info_run_delay /* CONFIG_SCHED_INFO */
	record->run_delay = READ(task->sched_info.run_delay);
	record->run_count = READ(task->sched_info.pcount);
	record->valid |= TASK_HAS_SCHED_INFO;
#endif
#ifdef HAVE_task_io_accounting_rchar /* CONFIG_TASK_XACCT */
	record->rchar = READ(task->ioac.rchar);
	record->wchar = READ(task->ioac.wchar);
	record->syscr = READ(task->ioac.syscr);
	record->syscw = READ(task->ioac.syscw);
	record->valid |= TASK_HAS_TASK_XACCT;
#endif
#ifdef HAVE_task_io_accounting_read_bytes /* CONFIG_TASK_IO_ACCOUNTING */
	record->read_bytes = READ(task->ioac.read_bytes);
	record->write_bytes = READ(task->ioac.write_bytes);
	record->cancelled_write_bytes = READ(task->ioac.cancelled_write_bytes);
	record->valid |= TASK_HAS_TASK_IO;
#endif
}

static __always_inline void read_time_namespaces(struct nsproxy *nsproxy, struct task_record *record)
{
#ifdef HAVE_nsproxy_time_ns /* 5.6, 769071ac9f20 ("ns: Introduce Time Namespace") */
	if (!READ(nsproxy->time_ns))	/* without CONFIG_TIME_NS */
		return;
	record->time_ns = READ(READ(nsproxy->time_ns)->ns.inum);
	record->time_ns_for_children = READ(READ(nsproxy->time_ns_for_children)->ns.inum);
	record->valid |= TASK_HAS_TIME_NS;
#endif
}

/* 5.15, dd6e10fbd9fb ("bpf: Add bpf_task_pt_regs() helper"); before, by the layout that the helper hides */
static __always_inline void *task_user_regs(struct task_struct *task)
{
#ifdef HAVE_BPF_FUNC_task_pt_regs
	return (void *)bpf_task_pt_regs(task);
#else
	return (char *)task->stack + 16384 /* THREAD_SIZE without KASAN */ - SIZEOF_pt_regs;
#endif
}

/*
 * Where the FPU area lies, and how long it is. `fpu` and `fpstate` are read with probe_read: the first lies behind
 * task_struct, out of the sight of BTF.
 */
static __always_inline void *task_xstate(struct task_struct *task, u32 *size)
{
	struct fpu *fpu;
#ifdef HAVE_thread_struct_fpu
	fpu = (void *)&task->thread.fpu;
#else /* 6.16, cb7ca40a3882 ("x86/fpu: Make task_struct::thread constant size") */
	fpu = (void *)((char *)task + SIZEOF_task_struct);
#endif
#ifdef HAVE_fpu_fpstate /* 5.16, 87d0e5be0fac ("x86/fpu: Provide struct fpstate") */
	struct fpstate *fpstate = NULL;

	/*
	 * Within KVM_RUN fpstate is the guest's, and the task's own is kept beside it: 5.16, d69c1382e1b7 ("x86/kvm: Convert FPU
	 * handling to a single swap buffer"). Before, the task's own was where nobody but KVM finds it.
	 */
#ifdef HAVE_fpu___task_fpstate
	bpf_probe_read_kernel(&fpstate, sizeof(fpstate), (void *)&fpu->__task_fpstate);
#endif
	if (!fpstate)
		bpf_probe_read_kernel(&fpstate, sizeof(fpstate), (void *)&fpu->fpstate);
	bpf_probe_read_kernel(size, sizeof(*size), (void *)&fpstate->size);
	return (void *)&fpstate->regs;
#else /* its length is that of the whole: sizeof(union fpregs_state) is rounded up to a page, CPUID has the last word */
	*size = SIZEOF_fpregs_state < MAX_XSTATE ? SIZEOF_fpregs_state : MAX_XSTATE;
	return (void *)&fpu->state;
#endif
}

/* 5.14, 9782a712eb95 ("x86/fpu: Add PKRU storage outside of task XSAVE buffer") */
static __always_inline u64 task_pkru(struct task_struct *task)
{
#ifdef HAVE_thread_struct_pkru
	return task->thread.pkru;
#else
	return ~0ULL;
#endif
}

/*
 * The base of fs or gs, as x86_fsbase_read_task() of arch/x86/kernel/process_64.c finds it. Without RDFSBASE (5.9, b745cfba44c1
 * ("x86/cpu: Enable FSGSBASE on 64bit by default and add a chicken bit"), and then by the CPU) the kernel does not keep the base
 * of a selector that is not null: it is that of the descriptor.
 */
static __always_inline u64 task_segment_base(struct task_struct *task, u16 selector, u64 kept)
{
	u32 index = selector >> 3;
	u64 descriptor = 0;

	if (!selector)
		return kept;
	if (selector & 4) {			/* of the LDT */
#ifdef HAVE_mm_context_t_ldt /* CONFIG_MODIFY_LDT_SYSCALL */
		struct ldt_struct *ldt = task->mm->context.ldt;

		if (ldt && index < ldt->nr_entries)
			bpf_probe_read_kernel(&descriptor, sizeof(descriptor), (u64 *)ldt->entries + index);
#endif
	} else if (index >= 12 && index <= 14) {	/* GDT_ENTRY_TLS_MIN, GDT_ENTRY_TLS_MAX */
		bpf_probe_read_kernel(&descriptor, sizeof(descriptor), (u64 *)task->thread.tls_array + (index - 12));
	}
	return (descriptor >> 16 & 0xffffff) | descriptor >> 56 << 24;
}

/* 5.10, d53d9bc0cf78 ("x86/debug: Change thread.debugreg6 to thread.virtual_dr6"), which stores it without the reserved bits */
static __always_inline u64 task_dr6(struct task_struct *task)
{
#ifdef HAVE_thread_struct_virtual_dr6
	return task->thread.virtual_dr6 ^ 0xffff0ff0ULL;
#else
	return task->thread.debugreg6;
#endif
}

/*
 * Whether task storage can be had with the run queue locked. 6.4, 08a7ce384e33 ("bpf: Use bpf_mem_cache_alloc/free in
 * bpf_local_storage_elem"): without kmalloc, which might wake kswapd. Later by kmalloc_nolock, as a word of the map says.
 */
static __always_inline bool storage_allocates_anywhere(void)
{
#if defined(HAVE_bpf_local_storage_map_selem_ma)
	return sizeof(((struct bpf_local_storage_map *)0)->selem_ma) > 0;
#elif defined(HAVE_bpf_local_storage_map_use_kmalloc_nolock)
	return sizeof(((struct bpf_local_storage_map *)0)->use_kmalloc_nolock) > 0;
#else
	return false;
#endif
}

/* 5.11, 3ca1032ab7ab ("bpf: Implement get_current_task_btf and RET_PTR_TO_BTF_ID"): typed, as task storage wants it */
#ifdef HAVE_BPF_FUNC_get_current_task_btf
#define HAVE_TYPED_CURRENT
#endif

#endif
