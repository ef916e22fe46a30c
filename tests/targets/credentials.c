// A process with different real, effective and saved ids: uids 1001, 1002, 1003, gids 2001, 2002, 2003, groups 3001 and 3002.
#define _GNU_SOURCE
#include <grp.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	gid_t groups[] = {3001, 3002};

	if (setgroups(2, groups) || setresgid(2001, 2002, 2003) || setresuid(1001, 1002, 1003)) {
		perror("credentials");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
