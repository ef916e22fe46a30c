// A process with threads of the kernel's making: a worker of io_uring, which waits in a read from an empty pipe. Says
// `worker no` where io_uring cannot be had, else `worker yes`.
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	struct io_uring_params params;
	int pipes[2], ring;
	static char buffer[16];

	memset(&params, 0, sizeof params);
	ring = syscall(SYS_io_uring_setup, 4, &params);
	if (ring < 0 || pipe(pipes)) {
		puts("worker no\nready");
		fflush(stdout);
		for (;;)
			pause();
	}
	char *queue = mmap(NULL, params.sq_off.array + params.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
			   IORING_OFF_SQ_RING);
	struct io_uring_sqe *entry = mmap(NULL, params.sq_entries * sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
					  IORING_OFF_SQES);

	entry->opcode = IORING_OP_READ;
	entry->flags = IOSQE_ASYNC;
	entry->fd = pipes[0];
	entry->addr = (unsigned long)buffer;
	entry->len = sizeof buffer;
	*(unsigned *)(queue + params.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(queue + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) != 1)
		return 1;
	puts("worker yes\nready");
	fflush(stdout);
	for (;;)
		pause();
}
