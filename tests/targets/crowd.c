// `crowd SLEEPERS RUNNERS`: so many processes that wait in pause(2), and so many that compute a little every 10 ms.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile unsigned long work;

static int child(int runs)
{
	pid_t pid = fork();

	if (pid)
		return pid > 0;
	for (;;) {
		if (!runs)
			pause();
		usleep(10000);
		for (int i = 0; i < 10000; i++)
			work++;
	}
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	for (int i = 0; i < atoi(argv[1]); i++)
		if (!child(0))
			return 1;
	for (int i = 0; i < atoi(argv[2]); i++)
		if (!child(1))
			return 1;
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
