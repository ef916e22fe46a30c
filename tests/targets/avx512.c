// A process whose every AVX-512 register is known: each byte of zmm i is i+1, mask register i holds i times 0x0101010101010101.
// Says `zmm yes`, or `zmm no` where the processor or the kernel has no AVX-512. Spins. `ready` comes a few instructions before.
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STR(i) #i
#define ZMM(i) "vmovdqu64 64*" STR(i) "(%0), %%zmm" STR(i) "\n"
#define MASK(i) "kmovq 8*" STR(i) "(%1), %%k" STR(i) "\n"

static uint8_t values[32][64];
static uint64_t masks[8];

int main(void)
{
	int there = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");

	for (int i = 0; i < 32; i++)
		memset(values[i], i + 1, 64);
	for (int i = 0; i < 8; i++)
		masks[i] = 0x0101010101010101 * i;
	puts(there ? "zmm yes" : "zmm no");
	puts("ready");
	fflush(stdout);
	if (!there)
		for (;;)
			pause();
	asm volatile(ZMM(0) ZMM(1) ZMM(2) ZMM(3) ZMM(4) ZMM(5) ZMM(6) ZMM(7) ZMM(8) ZMM(9) ZMM(10) ZMM(11) ZMM(12) ZMM(13)
		     ZMM(14) ZMM(15) ZMM(16) ZMM(17) ZMM(18) ZMM(19) ZMM(20) ZMM(21) ZMM(22) ZMM(23) ZMM(24) ZMM(25) ZMM(26)
		     ZMM(27) ZMM(28) ZMM(29) ZMM(30) ZMM(31)
		     MASK(0) MASK(1) MASK(2) MASK(3) MASK(4) MASK(5) MASK(6) MASK(7)
		     "1: jmp 1b\n" : : "r"(values), "r"(masks));
	__builtin_unreachable();
}
