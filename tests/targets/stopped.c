// A child that SIGSTOP has stopped, and that counts while it runs: one byte on standard output for SIGUSR1 each.
// Says `stopped PID`. Its parent has not consumed the stop.
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void answer(int number)
{
	(void)number;
	if (write(1, "hit\n", 4) != 4)
		_exit(1);
}

int main(void)
{
	siginfo_t info;
	pid_t child = fork();

	if (!child) {
		signal(SIGUSR1, answer);
		raise(SIGSTOP);
		for (;;)
			pause();
	}
	waitid(P_PID, child, &info, WSTOPPED | WNOWAIT);
	printf("stopped %d\nready\n", child);
	fflush(stdout);
	for (;;)
		pause();
}
