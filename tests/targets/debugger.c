// A process that traces another: `debugger traced` keeps its child seized (and running); `debugger breakpoint` has set an
// execution breakpoint on 0x400123 (dr0) and a write watchpoint of 8 bytes on 0x7ff000 (dr3) in its child, and let it go,
// which leaves them in place; `debugger watched` has set them and stays. Says `child PID`.
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define REGISTER(n) ((void *)(offsetof(struct user, u_debugreg) + 8 * (n)))

static void check(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		_exit(1);
	}
}

int main(int argc, char **argv)
{
	pid_t child = fork();

	if (!child)
		for (;;)
			pause();
	check(ptrace(PTRACE_SEIZE, child, 0, 0), "SEIZE");
	if (argc > 1 && strcmp(argv[1], "traced")) {
		check(ptrace(PTRACE_INTERRUPT, child, 0, 0), "INTERRUPT");
		check(waitpid(child, NULL, 0), "waitpid");
		check(ptrace(PTRACE_POKEUSER, child, REGISTER(0), (void *)0x400123), "dr0");
		check(ptrace(PTRACE_POKEUSER, child, REGISTER(3), (void *)0x7ff000), "dr3");
		// enabled locally: 0 (bit 0) and 3 (bit 6); type and length of 3 at bits 28-31: write, 8 bytes
		check(ptrace(PTRACE_POKEUSER, child, REGISTER(7), (void *)(0x1UL | 0x40UL | 0x9UL << 28)), "dr7");
		check(ptrace(strcmp(argv[1], "watched") ? PTRACE_DETACH : PTRACE_CONT, child, 0, 0), "DETACH");
	}
	printf("child %d\nready\n", child);
	fflush(stdout);
	for (;;)
		pause();
}
