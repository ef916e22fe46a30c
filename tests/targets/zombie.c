// A child that has exited with status 7 and that nobody waits for. Says `zombie PID`.
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	siginfo_t info;
	pid_t child = fork();

	if (!child)
		_exit(7);
	waitid(P_PID, child, &info, WEXITED | WNOWAIT);
	printf("zombie %d\nready\n", child);
	fflush(stdout);
	for (;;)
		pause();
}
