// `threads N`: N threads beside the first, all asleep in pause(2).
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static __attribute__((noreturn)) void *sleeper(void *barrier)
{
	pthread_barrier_wait(barrier);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1;
	pthread_barrier_t barrier;
	pthread_attr_t attr;
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, count + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	for (int i = 0; i < count; i++)
		if (pthread_create(&thread, &attr, sleeper, &barrier)) {
			perror("pthread_create");
			return 1;
		}
	pthread_barrier_wait(&barrier);
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
