// A process whose first thread has ended, while another sleeps. Says `left TID`.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_t first;

static __attribute__((noreturn)) void *other(void *unused)
{
	(void)unused;
	pthread_join(first, NULL);
	printf("left %d\nready\n", gettid());
	fflush(stdout);
	for (;;)
		pause();
}

int main(void)
{
	pthread_t thread;

	first = pthread_self();
	if (pthread_create(&thread, NULL, other, NULL))
		return 1;
	pthread_exit(NULL);
}
