// build: -m32 -static -nostdlib
// A 32-bit process with a TLS descriptor in gs: base 0x12345000, limit 0xfff bytes, 32-bit data.
//
// Says `entry N` (GDT entry) and `rip ADDRESS`. It then spins with eax 0x11111111, ebx 0x22222222, ecx, edx, esi, edi, ebp
// 0x77777777, and xmm0 of bytes 0xa5. `ready` comes a few instructions before: look at rip.
#include <asm/ldt.h>

static long call(long number, long a, long b, long c)
{
	long result;

	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

static void say(const char *word, unsigned long value, int base)
{
	char text[64];
	int used = 0, digits = 0;
	char reversed[16];

	while (*word)
		text[used++] = *word++;
	do {
		reversed[digits++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (digits)
		text[used++] = reversed[--digits];
	text[used++] = '\n';
	call(4, 1, (long)text, used);
}

extern char spin_here[];
unsigned char mark[16] __attribute__((aligned(16)));

void _start(void)
{
	struct user_desc desc = {.entry_number = -1, .base_addr = 0x12345000, .limit = 0xfff, .seg_32bit = 1, .useable = 1};

	call(243, (long)&desc, 0, 0); // set_thread_area
	asm volatile("mov %0, %%gs" : : "r"((short)(desc.entry_number * 8 + 3)));
	for (int i = 0; i < 16; i++)
		mark[i] = 0xa5;
	say("entry ", desc.entry_number, 10);
	say("rip 0x", (unsigned long)spin_here, 16);
	call(4, 1, (long)"ready\n", 6);
	asm volatile("movdqa mark, %xmm0\n"
		     "mov $0x11111111, %eax\n"
		     "mov $0x22222222, %ebx\n"
		     "mov $0x33333333, %ecx\n"
		     "mov $0x44444444, %edx\n"
		     "mov $0x55555555, %esi\n"
		     "mov $0x66666666, %edi\n"
		     "mov $0x77777777, %ebp\n"
		     ".globl spin_here\n"
		     "spin_here: jmp spin_here\n");
	__builtin_unreachable();
}
