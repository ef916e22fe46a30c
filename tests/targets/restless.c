// Three threads that never keep still: one uses all the CPU time it gets, one faults pages in, one sleeps and wakes.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LENGTH (64 * 4096)

static volatile unsigned long work;

static void *burn(void *unused)
{
	for (;;)
		work++;
	return unused;
}

static void *fault(void *unused)
{
	volatile char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (;;) {
		for (int at = 0; at < LENGTH; at += 4096)
			memory[at] = 1;
		madvise((void *)memory, LENGTH, MADV_DONTNEED);
	}
	return unused;
}

static void *doze(void *unused)
{
	struct timespec moment = { .tv_nsec = 50000 };

	for (;;)
		nanosleep(&moment, NULL);
	return unused;
}

int main(void)
{
	void *(*const lives[])(void *) = {burn, fault, doze};
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		if (pthread_create(&thread, NULL, lives[i], NULL))
			return 1;
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
