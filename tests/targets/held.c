// An uninterruptible sleep that no signal and no tracer ends: a parent in vfork(2), whose child is another one's tracee.
// Says `held PARENT CHILD`. For a line of input it lets the child go, which exits; the parent then says `back`.
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	int pipes[2];
	pid_t parent, child;
	char line[64];

	if (pipe(pipes))
		return 1;
	parent = fork();
	if (!parent) {
		pid_t made = vfork();

		if (!made) {
			pid_t own = getpid();

			if (write(pipes[1], &own, sizeof own) != sizeof own)
				_exit(1);
			for (;;)
				pause();
		}
		if (write(1, "back\n", 5) != 5)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(pipes[0], &child, sizeof child) != sizeof child || ptrace(PTRACE_SEIZE, child, 0, 0)) {
		perror("SEIZE");
		return 1;
	}
	printf("held %d %d\nready\n", parent, child);
	fflush(stdout);
	if (fgets(line, sizeof line, stdin)) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	for (;;)
		pause();
}
