// `burner N`: N threads (1 without N) that use all the CPU time they get. The first one waits in pause(2).
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile unsigned long work;

static __attribute__((noreturn)) void *burn(void *unused)
{
	(void)unused;
	for (;;)
		work++;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1;
	pthread_t thread;

	for (int i = 0; i < count; i++)
		if (pthread_create(&thread, NULL, burn, NULL))
			return 1;
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
