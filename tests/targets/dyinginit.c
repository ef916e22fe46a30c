// A task in the midst of its exit, which lasts: the init of a pid namespace that waits for a dead child, which is another's to
// reap. Says `dying PID`. For a line of input the child is reaped, and the init ends; `ended` when it has.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		_exit(1);
	}
}

int main(void)
{
	int go[2];
	unsigned long child;
	siginfo_t info;
	char line[64];

	must(pipe(go), "pipe");
	pid_t init = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);

	if (!init) {
		if (read(go[0], line, 1) != 1)
			_exit(1);
		if (!fork())
			for (;;)
				pause();
		if (read(go[0], line, 1) != 1)
			_exit(1);
		_exit(0);
	}
	must(init, "clone");
	must(ptrace(PTRACE_SEIZE, init, 0, PTRACE_O_TRACEFORK), "SEIZE");
	must(write(go[1], "x", 1), "write");
	must(waitpid(init, NULL, 0), "the fork");
	must(ptrace(PTRACE_GETEVENTMSG, init, 0, &child), "GETEVENTMSG");
	must(ptrace(PTRACE_DETACH, init, 0, 0), "DETACH");
	must(write(go[1], "x", 1), "write");
	must(waitid(P_PID, child, &info, WEXITED | WNOWAIT | __WALL), "the child's end");
	printf("dying %d\nready\n", init);
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		return 1;
	must(waitpid(child, NULL, __WALL), "reap");
	must(waitid(P_PID, init, &info, WEXITED | WNOWAIT), "the init's end");
	puts("ended");
	fflush(stdout);
	for (;;)
		pause();
}
