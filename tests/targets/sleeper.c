// Waits in epoll_wait(2), which is not restarted after a stop. For a line of input it says `interrupted N`: how often it has
// returned EINTR.
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>

int main(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int queue = epoll_create1(0);
	long interrupted = 0;
	char line[64];

	epoll_ctl(queue, EPOLL_CTL_ADD, 0, &event);
	puts("ready");
	fflush(stdout);
	for (;;) {
		if (epoll_wait(queue, &event, 1, -1) < 0 && errno == EINTR) {
			interrupted++;
			continue;
		}
		if (!fgets(line, sizeof line, stdin))
			return 0;
		printf("interrupted %ld\n", interrupted);
		fflush(stdout);
	}
}
