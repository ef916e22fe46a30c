// For a line of input N: N children one after another (four at a time), each of which uses a millisecond of its cpu and exits
// with pid & 127. When all are reaped: `made N`.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void compute(void)
{
	struct timespec start, now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	while ((now.tv_sec - start.tv_sec) * 1000000000LL + now.tv_nsec - start.tv_nsec < 1000000);
}

int main(void)
{
	char line[64];

	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		int made = 0, reaped = 0, wanted = atoi(line);

		while (reaped < wanted) {
			if (made < wanted && made - reaped < 4) {
				if (!fork()) {
					compute();
					_exit(getpid() & 127);
				}
				made++;
			} else if (wait(NULL) > 0) {
				reaped++;
			}
		}
		printf("made %d\n", made);
		fflush(stdout);
	}
}
