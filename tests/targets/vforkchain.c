// A parent in vfork(2) whose child is in vfork(2), whose child sleeps. For a line of input the last one exits, and the others
// say `back PID` one after another.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say(const char *format, int number)
{
	char text[64];

	snprintf(text, sizeof text, format, number);
	if (write(1, text, strlen(text)) < 0)
		_exit(1);
}

static void last(void)
{
	char byte;

	say("ready\n", 0);
	if (read(0, &byte, 1) < 0)
		_exit(1);
	_exit(0);
}

static __attribute__((noinline)) void middle(void)
{
	if (!vfork())
		last();
	say("back %d\n", getpid());
	_exit(0);
}

int main(void)
{
	if (!vfork())
		middle();
	say("back %d\n", getpid());
	for (;;)
		pause();
}
