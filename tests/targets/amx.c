// build: -mamx-tile
// A process with something in an AMX tile register: row i of tmm0 is 64 bytes of i+1. Says `tile yes`, or `tile no` where the
// CPU or the kernel has no AMX. Spins, as a system call would be a place for the tile to be lost.
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XTILEDATA 18

int main(void)
{
	struct {
		uint8_t palette, start_row, reserved[14];
		uint16_t bytes[16];
		uint8_t rows[16];
	} config = {.palette = 1, .bytes = {64}, .rows = {16}};
	static uint8_t tile[16][64];

	if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA)) {
		puts("tile no\nready");
		fflush(stdout);
		for (;;)
			pause();
	}
	for (int i = 0; i < 16; i++)
		memset(tile[i], i + 1, 64);
	puts("tile yes");
	fflush(stdout);
	_tile_loadconfig(&config);
	_tile_loadd(0, tile, 64);
	if (write(1, "ready\n", 6) != 6)
		return 1;
	for (;;)
		;
}
