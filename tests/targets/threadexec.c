// `threadexec N MS [wait]`: a thread that is not the leader executes the program anew every MS milliseconds, while N others
// sleep; with `wait`, from the first line of input on. Says `execs COUNT` for each line of input. (The count goes on in that
// last argument.) After the line `sleep`, it executes sleep(1) in its place.
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static char **arguments;

static __attribute__((noreturn)) void *sleeper(void *unused)
{
	(void)unused;
	for (;;)
		pause();
}

static void *executor(void *unused)
{
	static char count[32];
	char *again[] = {arguments[0], arguments[1], arguments[2], count, NULL};
	long done = arguments[3] ? atol(arguments[3]) : 0;
	struct pollfd input = {.fd = 0, .events = POLLIN};
	char byte, first = 0;

	(void)unused;
	prctl(PR_SET_PDEATHSIG, SIGKILL); // this thread has not inherited it, and its process is to end with the test
	if (poll(&input, 1, arguments[3] && !strcmp(arguments[3], "wait") ? -1 : atoi(arguments[2])) > 0) {
		while (read(0, &byte, 1) == 1 && byte != '\n')
			first = first ? first : byte;
		printf("execs %ld\n", done);
		fflush(stdout);
	}
	if (first == 's')
		execl("/bin/sleep", "sleep", "1000", NULL);
	snprintf(count, sizeof count, "%ld", done + 1);
	execv("/proc/self/exe", again);
	perror("execv");
	_exit(1);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc < 3)
		return 2;
	arguments = argv;
	for (int i = 0; i < atoi(argv[1]); i++)
		if (pthread_create(&thread, NULL, sleeper, NULL))
			return 1;
	if (argc == 3 || !strcmp(argv[3], "wait")) {
		puts("ready");
		fflush(stdout);
	}
	if (pthread_create(&thread, NULL, executor, NULL))
		return 1;
	for (;;)
		pause();
}
