// For each line of input it makes a child and says `child PID`: `untraced` by clone with CLONE_UNTRACED, which no tracer's
// options catch, `fork`, `vfork` (the child exits when SIGUSR1 comes), or a `thread`.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void end(int number)
{
	(void)number;
	_exit(0);
}

static __attribute__((noreturn)) void *sleeper(void *tid)
{
	*(volatile long *)tid = gettid();
	for (;;)
		pause();
}

int main(void)
{
	char line[64];

	signal(SIGUSR1, end);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		volatile long child = 0;

		if (!strcmp(line, "thread\n")) {
			pthread_t thread;

			if (pthread_create(&thread, NULL, sleeper, (void *)&child))
				return 1;
			while (!child)
				usleep(100);
		} else {
			child = !strcmp(line, "untraced\n") ? syscall(SYS_clone, CLONE_UNTRACED | SIGCHLD, 0, 0, 0, 0)
				: !strcmp(line, "vfork\n")  ? vfork()
							    : fork();
			if (!child)
				for (;;)
					pause();
		}
		printf("child %ld\n", child);
		fflush(stdout);
	}
	return 0;
}
