// `forkstorm fork|vfork|thread|mixed|orphans`: makes children (or threads) without pause, a few alive at a time, each for an instant.
// A child of `orphans` ends at once, and leaves one of its own that lives a little longer.
// For a line of input it says `made N`, and `failed N` where one could not be made or ended with another status than 3.
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *brief(void *argument)
{
	return argument;
}

static int make(int kind)
{
	int status = 0;

	if (kind == 2) {
		pthread_t thread;
		void *result = NULL;

		if (pthread_create(&thread, NULL, brief, &status))
			return 0;
		pthread_join(thread, &result);
		return result == &status;
	}
	pid_t child = kind == 1 ? vfork() : fork();

	if (!child) {
		if (kind == 3 && !fork()) {
			usleep(500);
			_exit(0);
		}
		_exit(3);
	}
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "mixed";
	int kind = !strcmp(how, "fork") ? 0 : !strcmp(how, "vfork") ? 1 : !strcmp(how, "thread") ? 2 : -1;

	if (!strcmp(how, "orphans"))
		kind = 3;
	long made = 0, failed = 0;
	char line[64];

	puts("ready");
	fflush(stdout);
	for (;;) {
		struct pollfd input = {.fd = 0, .events = POLLIN};

		if (make(kind < 0 ? made % 3 : kind))
			made++;
		else
			failed++;
		if (poll(&input, 1, 0) > 0) {
			if (!fgets(line, sizeof line, stdin))
				return 0;
			printf("made %ld\nfailed %ld\n", made, failed);
			fflush(stdout);
		}
	}
}
