// `signalstorm N`: a child queues N real-time signals with sequence numbers to its parent once a line of input has come.
// When the child has ended, the parent says `received COUNT` and `misordered COUNT`.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile long received, misordered;

static void count(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	if (info->si_value.sival_int != received)
		misordered++;
	received++;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = count, .sa_flags = SA_SIGINFO};
	long total = argc > 1 ? atol(argv[1]) : 20000;
	char line[64];

	sigaction(SIGRTMIN, &action, NULL);
	puts("ready");
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		return 1;
	pid_t child = fork();

	if (!child) {
		for (long i = 0; i < total; i++) {
			while (sigqueue(getppid(), SIGRTMIN, (union sigval){.sival_int = i})) {
				if (errno != EAGAIN)
					_exit(1);
				usleep(100); // the queue is full
			}
			if (i % 20 == 0)
				usleep(1000); // so that it goes on for a second at least
		}
		_exit(0);
	}
	int status = 1;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	while (received < total && usleep(200000) < 0) // a signal interrupts the sleep; silence means that there are no more
		;
	printf("received %ld\nmisordered %ld\nstatus %d\n", received, misordered, status);
	fflush(stdout);
	for (;;)
		pause();
}
