// A process that has something unusual in as many fields as can be had, and relatives for the others.
//
// Says, in words that end with numbers: `clear_tid A` of itself; `uncommon PID SET CLEAR`, a child cloned with these two
// addresses; `exited PID`, a zombie with status 7; `terminated PID`, one that SIGTERM ended; `group PID`, a child that leads a
// process group; `session PID`, one that leads a session; `realtime PID`, one under SCHED_FIFO 7; `idle PID`, one under
// SCHED_IDLE; `int80 PID`, a 64-bit one inside a system call of the 32-bit kind; `born PID FROM TO`, a child and the times
// on the monotonic clock, in ns, between which it was forked.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int set_place, clear_place, own_place;

static void must(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		_exit(1);
	}
}

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void handler(int number)
{
	(void)number;
}

// Forks a child that does `what`, says that it has, and waits.
static pid_t relative(const char *name, void (*what)(void))
{
	int pipes[2];
	char byte;

	must(pipe(pipes), "pipe");
	pid_t child = fork();

	if (!child) {
		what();
		must(write(pipes[1], "x", 1), "write");
		for (;;)
			pause();
	}
	must(read(pipes[0], &byte, 1), "read");
	close(pipes[0]);
	close(pipes[1]);
	if (name)
		printf("%s %d\n", name, child);
	return child;
}

static void nothing(void) {}
static void lead_group(void) { must(setpgid(0, 0), "setpgid"); }
static void lead_session(void) { must(setsid(), "setsid"); }

static void realtime(void)
{
	must(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 7}), "SCHED_FIFO");
}

static void idle(void)
{
	must(sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){}), "SCHED_IDLE");
}

static void dead(const char *name, int status, int number)
{
	siginfo_t info;
	pid_t child = fork();

	if (!child) {
		signal(SIGTERM, SIG_DFL);
		if (number)
			raise(number);
		_exit(status);
	}
	waitid(P_PID, child, &info, WEXITED | WNOWAIT);
	printf("%s %d\n", name, child);
}

static void relatives(void)
{
	long before = now();
	pid_t child = relative(NULL, nothing);

	printf("born %d %ld %ld\n", child, before, now());
	child = syscall(SYS_clone, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGUSR1, 0, 0, &set_place, 0);
	if (!child) { // the kernel has but one argument for both: the second is moved
		syscall(SYS_set_tid_address, &clear_place);
		for (;;)
			pause();
	}
	printf("uncommon %d %lu %lu\n", child, (unsigned long)&set_place, (unsigned long)&clear_place);
	dead("exited", 7, 0);
	dead("terminated", 0, SIGTERM);
	relative("group", lead_group);
	relative("session", lead_session);
	relative("realtime", realtime);
	relative("idle", idle);
	child = fork();
	if (!child)
		for (;;)
			asm volatile("int $0x80" : : "a"(29) : "memory"); // pause(2) by its 32-bit number
	printf("int80 %d\n", child);
}

static void signals(void)
{
	sigset_t set;

	signal(SIGUSR1, handler);
	signal(SIGRTMAX, handler);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGRTMIN + 3);
	sigprocmask(SIG_BLOCK, &set, NULL);
	must(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR2), "tgkill"); // pending for the thread
	must(kill(getpid(), SIGRTMIN + 3), "kill"); // for the process
}

static void credentials(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {
		{.effective = 1 << CAP_CHOWN | 1 << CAP_SYS_ADMIN,
		 .permitted = 1 << CAP_CHOWN | 1 << CAP_SYS_ADMIN | 1 << CAP_NET_RAW,
		 .inheritable = 1 << CAP_NET_RAW},
		{.permitted = 1 << (CAP_SYSLOG - 32)}};
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &allow};

	must(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0), "CAPBSET_DROP");
	must(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_KEEP_CAPS_LOCKED, 0, 0, 0), "SET_SECUREBITS");
	must(syscall(SYS_capset, &header, data), "capset");
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0), "AMBIENT_RAISE");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "NO_NEW_PRIVS");
	for (int i = 0; i < 3; i++)
		must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "SECCOMP");
}

int main(void)
{
	cpu_set_t cpus;
	char buffer[4096];
	int zeros = open("/dev/zero", O_RDONLY);

	relatives();
	for (int i = 0; i < 17; i++) // something to count: 17 reads of 4096 bytes
		must(read(zeros, buffer, sizeof buffer), "read");
	signals();
	must(setpriority(PRIO_PROCESS, 0, 5), "setpriority");
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	must(sched_setaffinity(0, sizeof cpus, &cpus), "sched_setaffinity");
	must(prctl(PR_SET_PDEATHSIG, SIGRTMIN + 4), "PDEATHSIG");
	syscall(SYS_set_tid_address, &own_place);
	printf("clear_tid %lu\n", (unsigned long)&own_place);
	must(prctl(PR_SET_TSC, PR_TSC_SIGSEGV), "TSC");
	must(prctl(PR_SET_NAME, "a)\n\\\x01 \xff\x80 R 1%s"), "NAME");
	credentials();
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
