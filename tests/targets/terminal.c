// A session whose terminal hung up: its leader still knows which group was in the foreground. Says `leader PID GROUP`.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void hung_up(int number)
{
	(void)number;
}

int main(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), pipes[2];
	char byte;

	if (master < 0 || grantpt(master) || unlockpt(master) || pipe(pipes))
		return 1;
	pid_t leader = fork();

	if (!leader) {
		sigset_t blocked, old;

		signal(SIGHUP, hung_up);
		signal(SIGTTOU, SIG_IGN);
		sigemptyset(&blocked);
		sigaddset(&blocked, SIGHUP);
		sigprocmask(SIG_BLOCK, &blocked, &old);
		setsid();
		int slave = open(ptsname(master), O_RDWR);

		close(master);
		pid_t group = fork();

		if (!group) {
			signal(SIGHUP, SIG_IGN);
			for (;;)
				pause();
		}
		if (slave < 0 || setpgid(group, group) || tcsetpgrp(slave, group) || write(pipes[1], &byte, 1) != 1)
			_exit(1);
		sigsuspend(&old);
		printf("leader %d %d\nready\n", getpid(), group);
		fflush(stdout);
		for (;;)
			pause();
	}
	if (read(pipes[0], &byte, 1) != 1)
		return 1;
	close(master);
	for (;;)
		pause();
}
