// gs holds a selector of the local descriptor table, with base 0x12345000. Says `selector N`, then blocks in pause(2).
#include <asm/ldt.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRY 5

int main(void)
{
	struct user_desc desc = {.entry_number = ENTRY, .base_addr = 0x12345000, .limit = 0xfff, .seg_32bit = 1, .useable = 1};
	unsigned short selector = ENTRY << 3 | 7; // of the LDT, ring 3

	if (syscall(SYS_modify_ldt, 1, &desc, sizeof(desc))) {
		perror("modify_ldt");
		return 1;
	}
	asm volatile("mov %0, %%gs" : : "r"(selector));
	printf("selector %d\nready\n", selector);
	fflush(stdout);
	for (;;)
		pause();
}
