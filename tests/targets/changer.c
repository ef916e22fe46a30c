// A second thread that changes its own credentials, and no other's: for a line of input UID it becomes that user by a bare
// setresuid(2), keeps saved uid 0, and says `changed TID UID`.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *change(void *unused)
{
	char line[64];

	while (fgets(line, sizeof line, stdin)) {
		if (syscall(SYS_setresuid, atoi(line), atoi(line), 0))
			_exit(1);
		printf("changed %d %d\n", gettid(), atoi(line));
		fflush(stdout);
	}
	return unused;
}

int main(void)
{
	pthread_t thread;

	puts("ready");
	fflush(stdout);
	if (pthread_create(&thread, NULL, change, NULL))
		return 1;
	pthread_join(thread, NULL);
}
