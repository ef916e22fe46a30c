// `clockwatch N`: a thread that looks at the clock all the time, beside N that sleep.
// For each line of input it says `gap NS`, the longest time between two looks since the last such answer.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static _Atomic long longest, looks;

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

static __attribute__((noreturn)) void *watch(void *unused)
{
	long last = now(), next;

	(void)unused;
	for (;; last = next) {
		next = now();
		if (next - last > longest)
			longest = next - last;
		looks++;
	}
}

static __attribute__((noreturn)) void *sleeper(void *unused)
{
	(void)unused;
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 0;
	pthread_attr_t attr;
	pthread_t thread;
	char line[64];

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	for (int i = 0; i < count; i++)
		if (pthread_create(&thread, &attr, sleeper, NULL))
			return 1;
	if (pthread_create(&thread, &attr, watch, NULL))
		return 1;
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		long seen = looks;

		while (looks < seen + 2) // the look after a stop may be yet to come
			usleep(100);
		printf("gap %ld\n", atomic_exchange(&longest, 0));
		fflush(stdout);
	}
	for (;;)
		pause();
}
