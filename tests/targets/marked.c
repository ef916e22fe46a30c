// Every register holds a value that a test knows: `marked spin` in user mode, `marked blocked` inside pause(2).
//
// General register k of the list below holds k times 0x0101010101010101 (rax 1, rbx 2, rcx 3, rdx 4, rsi 5, rdi 6, rbp 7,
// r8 8 ... r15 15), byte j of xmm i is 16*i+j, byte j of the upper half of ymm i its complement, st(0) is pi, the x87 control
// word is 0x027f, mxcsr 0x1fc0 and the carry flag is set. Says rsp, rip (of the spin, or behind the syscall), gs_base and
// whether it has ymm registers. `ready` comes a few instructions before the last registers are set: look at rip.
#include <asm/prctl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

uint8_t low[16][16], high[16][16];
char stack[4096] __attribute__((aligned(64)));
uint32_t mxcsr = 0x1fc0;
uint16_t control = 0x027f;
extern char spin_here[], blocked_here[];
void mark(long blocked, long avx) __attribute__((noreturn));

#define LOAD(i) "movdqu low+16*" #i "(%rip), %xmm" #i "\n"
#define UPPER(i) "vinsertf128 $1, high+16*" #i "(%rip), %ymm" #i ", %ymm" #i "\n"
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define GENERAL(r, k) "movabs $0x0101010101010101*" #k ", %" #r "\n"
#define CALLEE \
	GENERAL(rbx, 2) GENERAL(rbp, 7) GENERAL(r8, 8) GENERAL(r9, 9) GENERAL(r10, 10) GENERAL(r12, 12) GENERAL(r13, 13) \
	GENERAL(r14, 14) GENERAL(r15, 15)
#define CALLER GENERAL(rdx, 4) GENERAL(rsi, 5) GENERAL(rdi, 6)

asm(".text\n"
    "mark:\n"
    "mov %rdi, %rbx\n" ALL(LOAD)
    "test %rsi, %rsi\n"
    "jz 1f\n" ALL(UPPER)
    "1: fninit\n"
    "fldcw control(%rip)\n"
    "ldmxcsr mxcsr(%rip)\n"
    "fldpi\n"
    "lea stack+4096(%rip), %rsp\n"
    "mov $1, %eax\n" // write(1, "ready\n", 6)
    "mov $1, %edi\n"
    "lea ready(%rip), %rsi\n"
    "mov $6, %edx\n"
    "syscall\n"
    "test %rbx, %rbx\n"
    "jnz 2f\n" CALLEE CALLER GENERAL(rax, 1) GENERAL(rcx, 3) GENERAL(r11, 11)
    "stc\n"
    ".globl spin_here\n"
    "spin_here: jmp spin_here\n"
    "2:\n" CALLEE CALLER
    "mov $34, %eax\n" // pause(2)
    "stc\n"
    "syscall\n"
    ".globl blocked_here\n"
    "blocked_here: jmp 2b\n"
    "ready: .ascii \"ready\\n\"\n");

int main(int argc, char **argv)
{
	long blocked = argc > 1 && !strcmp(argv[1], "blocked"), avx = __builtin_cpu_supports("avx") != 0;

	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 16; j++) {
			low[i][j] = 16 * i + j;
			high[i][j] = ~low[i][j];
		}
	syscall(SYS_arch_prctl, ARCH_SET_GS, 0x123456789000);
	printf("rsp %p\nrip %p\ngs_base 0x123456789000\nymm %ld\n", (void *)(stack + sizeof stack),
	       (void *)(blocked ? blocked_here : spin_here), avx);
	fflush(stdout);
	mark(blocked, avx);
}
