// A parent inside vfork(2), whose child sleeps: what posix_spawn(3) of a slow exec looks like. Says `child PID`.
// For each byte of input the child says `here`; at the end of input it exits, and the parent says `back`.
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(1);
}

int main(void)
{
	char text[64], byte;

	if (!vfork()) {
		snprintf(text, sizeof text, "child %d\nready\n", getpid());
		say(text);
		while (read(0, &byte, 1) == 1)
			if (byte == '\n')
				say("here\n");
		_exit(0);
	}
	say("back\n");
	wait(NULL);
	for (;;)
		pause();
}
