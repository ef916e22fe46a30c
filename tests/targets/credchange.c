// `credchange PROGRAM`: changes its credentials as it is told, one change a command, and stays. PROGRAM is what `exec` executes.
//
// It has a second thread. `ready` is preceded by `thread TID`. Commands, each answered by `done` (`exec`: by PROGRAM itself)
// when the thread that changed has left its cpu since:
// setgroups  sets three supplementary groups          same      sets the same three once more: no change
// thread     the second thread alone: setresuid       capset    drops CAP_SYS_TIME from all of its capability sets
// secure     sets a securebit                         seteuid N raw, of the first thread alone
// both       setresgid by libc: of each thread        burn      the second thread alone, which then never leaves the cpu
// back       another effective uid and the old one again, within one turn on the cpu
// storm N    N changes of the first thread's effective uid, and a turn on the cpu for each
// leave      a child with changes of its own, which has ended    exec    execveat of PROGRAM, opened at the start
// userns     a child that enters a new user namespace, and has ended
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_t asked, answered;
static int burn;
static long second_thread;
static volatile unsigned long work;

static void must(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		_exit(1);
	}
}

static void say(const char *line)
{
	puts(line);
	fflush(stdout);
}

static long turns(long thread)
{
	char path[64], line[256];
	FILE *status;
	long number = -1;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/status", thread);
	status = fopen(path, "r");
	while (status && fgets(line, sizeof(line), status))
		sscanf(line, "voluntary_ctxt_switches: %ld", &number);
	if (status)
		fclose(status);
	must(number, "voluntary_ctxt_switches");
	return number;
}

static void leave_cpu(void)
{
	struct rusage before, now;

	getrusage(RUSAGE_THREAD, &before);
	do {
		usleep(100); // on a slow machine that time may be over before it sleeps
		getrusage(RUSAGE_THREAD, &now);
	} while (now.ru_nvcsw == before.ru_nvcsw);
}

static long raw_setresuid(int real, int effective, int saved)
{
	return syscall(SYS_setresuid, real, effective, saved);
}

static void *second(void *unused)
{
	second_thread = syscall(SYS_gettid);
	printf("thread %ld\n", second_thread);
	sem_post(&answered);
	for (;;) {
		sem_wait(&asked);
		if (burn) {
			must(raw_setresuid(-1, 1005, -1), "setresuid");
			sem_post(&answered);
			for (;;)
				work++;
		}
		must(raw_setresuid(1001, 1002, 0), "setresuid");
		leave_cpu();
		sem_post(&answered);
	}
	return unused;
}

static void drop_capability(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[2];

	must(syscall(SYS_capget, &header, sets), "capget");
	sets[0].effective &= ~(1u << CAP_SYS_TIME);
	sets[0].permitted &= ~(1u << CAP_SYS_TIME);
	sets[0].inheritable &= ~(1u << CAP_SYS_TIME);
	must(syscall(SYS_capset, &header, sets), "capset");
}

static void child(int new_namespace)
{
	pid_t pid = fork();

	must(pid, "fork");
	if (!pid) {
		if (new_namespace)
			must(unshare(CLONE_NEWUSER), "unshare");
		else
			must(raw_setresuid(1007, 1007, 1007), "setresuid");
		_exit(0);
	}
	must(waitpid(pid, NULL, 0), "waitpid");
}

static void storm(int count)
{
	for (int i = 0; i < count; i++) {
		must(raw_setresuid(-1, i % 2 ? 0 : 1004, -1), "setresuid");
		leave_cpu();
	}
}

static void both(void)
{
	long before = turns(second_thread);

	must(setresgid(2001, 2002, 2003), "setresgid");
	while (turns(second_thread) == before) // it was woken to do its part, and sleeps again
		usleep(100);
}

static void obey(const char *command, int program, char **argv, char **environ)
{
	gid_t groups[] = {3001, 3002, 3003};

	if (!strcmp(command, "setgroups") || !strcmp(command, "same"))
		must(syscall(SYS_setgroups, 3, groups), "setgroups");
	else if (!strcmp(command, "capset"))
		drop_capability();
	else if (!strcmp(command, "secure"))
		must(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS), "prctl");
	else if (!strcmp(command, "both"))
		both();
	else if (!strncmp(command, "seteuid ", 8))
		must(raw_setresuid(-1, atoi(command + 8), -1), "setresuid");
	else if (!strcmp(command, "back")) {
		must(raw_setresuid(-1, 1004, -1), "setresuid");
		must(raw_setresuid(-1, 0, -1), "setresuid");
	} else if (!strncmp(command, "storm ", 6))
		storm(atoi(command + 6));
	else if (!strcmp(command, "leave") || !strcmp(command, "userns"))
		child(*command == 'u');
	else if (!strcmp(command, "exec"))
		must(syscall(SYS_execveat, program, "", argv, environ, AT_EMPTY_PATH), "execveat");
	else {
		burn = !strcmp(command, "burn");
		sem_post(&asked);
		sem_wait(&answered);
	}
	leave_cpu();
	say("done");
}

int main(int argc, char **argv, char **environ)
{
	int program = argc > 1 ? open(argv[1], O_PATH | O_CLOEXEC) : -1;
	pthread_t thread;
	char line[64];

	sem_init(&asked, 0, 0);
	sem_init(&answered, 0, 0);
	if (pthread_create(&thread, NULL, second, NULL))
		return 1;
	sem_wait(&answered);
	say("ready");
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		obey(line, program, argv, environ);
	}
	for (;;)
		pause();
}
