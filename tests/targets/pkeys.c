// Holds its own value in PKRU: `pkru 0xNUMBER`, or `pkru no` where the processor or the kernel has no protection keys.
// Then blocks in pause(2).
#include <cpuid.h>
#include <stdio.h>
#include <unistd.h>

#define PKRU 0xa5c30f30u // every two bits one key's; those of key 0, which all memory has, stay 0

int main(void)
{
	unsigned int eax, ebx, ecx, edx;

	if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && ecx & bit_OSPKE) {
		asm volatile("wrpkru" : : "a"(PKRU), "c"(0), "d"(0));
		printf("pkru %#x\n", PKRU);
	} else {
		puts("pkru no");
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
