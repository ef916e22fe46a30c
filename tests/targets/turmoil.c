// Tasks that never keep still: one each that forks, executes, changes its credentials, faults pages in, burns CPU time, changes
// its name, its signal mask, its process group, its priority, its namespaces; and one whose threads execute in turn.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void forks(void)
{
	for (;;) {
		pid_t child = fork();

		if (!child)
			_exit(0);
		waitpid(child, NULL, 0);
	}
}

static void executes(void)
{
	execl("/proc/self/exe", "turmoil", "executes", (char *)NULL);
	_exit(1);
}

static void changes_credentials(void)
{
	gid_t groups[] = {1, 2, 3, 4};

	for (unsigned i = 0;; i++) {
		setgroups(i % 5, groups);
		setresgid(-1, i % 7, -1);
		setresuid(-1, i % 2 ? 1000 : 0, -1);
	}
}

static void faults(void)
{
	for (;;) {
		size_t size = 64 * 4096;
		char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (size_t at = 0; at < size; at += 4096)
			pages[at] = 1;
		munmap(pages, size);
	}
}

static void burns(void)
{
	for (volatile unsigned long work = 0;; work++)
		;
}

static void changes_name(void)
{
	char name[16];

	for (unsigned i = 0;; i++) {
		snprintf(name, sizeof(name), "name) %u", i % 100);
		prctl(PR_SET_NAME, name);
	}
}

static void changes_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	for (;;) {
		sigprocmask(SIG_BLOCK, &all, NULL);
		kill(getpid(), SIGUSR1);
		signal(SIGUSR1, SIG_IGN);
		sigprocmask(SIG_UNBLOCK, &all, NULL);
		signal(SIGUSR1, SIG_DFL);
		signal(SIGUSR1, SIG_IGN);
	}
}

static void changes_group(void)
{
	pid_t child = fork();

	if (!child)
		for (;;)
			usleep(500);
	for (;;) {
		setpgid(child, child);
		setpgid(child, getpgrp());
	}
}

static void changes_priority(void)
{
	cpu_set_t one, all;

	sched_getaffinity(0, sizeof(all), &all);
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	for (int i = 0;; i++) {
		setpriority(PRIO_PROCESS, 0, i % 10);
		sched_setaffinity(0, sizeof(one), i % 2 ? &one : &all);
	}
}

static void changes_namespaces(void)
{
	for (;;) {
		unshare(CLONE_NEWUTS);
		usleep(200);
	}
}

static void *pauses(void *unused)
{
	return (void *)(long)pause();
}

static void *executes_from_here(void *unused)
{
	execl("/proc/self/exe", "turmoil", "threads", (char *)NULL);
	_exit(1);
}

static void threads(void)
{
	pthread_t thread;

	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, pauses, NULL);
	pthread_create(&thread, NULL, executes_from_here, NULL);
	for (;;)
		pause();
}

static void reads_and_writes(void)
{
	char buffer[512];
	int in = open("/dev/zero", O_RDONLY), out = open("/dev/null", O_WRONLY);

	while (read(in, buffer, sizeof(buffer)) > 0 && write(out, buffer, sizeof(buffer)) > 0)
		;
	_exit(1);
}

static const struct {
	const char *name;
	void (*run)(void);
} workers[] = {
	{"executes", executes}, {"threads", threads}, {"forks", forks}, {"credentials", changes_credentials}, {"faults", faults},
	{"burns", burns}, {"name", changes_name}, {"signals", changes_signals}, {"group", changes_group},
	{"priority", changes_priority}, {"namespaces", changes_namespaces}, {"io", reads_and_writes},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(workers) / sizeof(*workers); i++) {
		if (argc > 1 ? strcmp(argv[1], workers[i].name) : fork())
			continue;
		if (argc == 1)
			usleep(20000);
		workers[i].run();
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		if (wait(NULL) < 0 && errno == ECHILD)
			pause();
}
