// A chain of N processes, each the child of the one before. For each line that is said, the last one changes its effective uid.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int depth = argc > 1 ? atoi(argv[1]) : 0;
	char line[64];

	for (; depth > 0; depth--) {
		pid_t child = fork();

		if (child < 0) {
			perror("fork");
			return 1;
		}
		if (child)
			for (;;)
				pause();
	}
	for (uid_t uid = 1001;; uid++) {
		puts(uid == 1001 ? "ready" : "done");
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin) || seteuid(0) || seteuid(uid))
			return 1;
	}
}
