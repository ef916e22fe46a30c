/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An independent reader of cpt images: it knows the C structs of OpenVZ checkpoint/restart v2, patch 05/10 (October 2008,
 * Copyright (C) 2008 Parallels, Inc.), copied as they stand there, and nothing of cptbpf. Every object of another type is
 * skipped by its cpt_len.
 *
 * creader          prints "STRUCT FIELD OFFSET SIZE" for every field, and "STRUCT - 0 SIZE" for every struct
 * creader IMAGE    prints "OFFSET STRUCT FIELD VALUE..." for every record, values and bytes in hexadecimal
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef uint8_t __u8;
typedef uint16_t __u16;
typedef uint32_t __u32;
typedef uint64_t __u64;

#define TASK_COMM_LEN 16
#define GDT_ENTRY_TLS_ENTRIES 3

enum _cpt_object_type
{
	CPT_OBJ_TASK = 0,
	CPT_OBJ_HEAD = 1024,
	CPT_OBJ_X86_REGS,
	CPT_OBJ_BITS,
};

enum _cpt_content_type {
	CPT_CONTENT_VOID,
	CPT_CONTENT_ARRAY,
	CPT_CONTENT_DATA,
	CPT_CONTENT_NAME,
	CPT_CONTENT_REF,
	CPT_CONTENT_X86_FPUSTATE,
	CPT_CONTENT_X86_FPUSTATE_OLD,
	CPT_CONTENT_MAX
};

struct cpt_object_hdr
{
	__u64 cpt_len;
	__u32 cpt_hdrlen;
	__u16 cpt_type;
	__u16 cpt_content;
} __attribute__ ((aligned (8)));

struct cpt_task_image {
	__u64 cpt_len;
	__u32 cpt_hdrlen;
	__u16 cpt_type;
	__u16 cpt_content;

	__u64 cpt_state;
	__u64 cpt_flags;
#define CPT_PF_EXITING 0
#define CPT_PF_FORKNOEXEC 1
#define CPT_PF_SUPERPRIV 2
#define CPT_PF_DUMPCORE 3
#define CPT_PF_SIGNALED 4
#define CPT_PF_USED_MATH 5

	__u64 cpt_thrflags;
	__u64 cpt_thrstatus;
	__u32 cpt_pid;
	__u32 cpt_tgid;
	__u32 cpt_ppid;
	__u32 cpt_rppid;
	__u32 cpt_pgrp;
	__u32 cpt_session;
	__u32 cpt_old_pgrp;
	__u32 cpt_leader;
	__u64 cpt_set_tid;
	__u64 cpt_clear_tid;
	__u32 cpt_exit_code;
	__u32 cpt_exit_signal;
	__u32 cpt_pdeath_signal;
	__u32 cpt_user;
	__u32 cpt_uid;
	__u32 cpt_euid;
	__u32 cpt_suid;
	__u32 cpt_fsuid;
	__u32 cpt_gid;
	__u32 cpt_egid;
	__u32 cpt_sgid;
	__u32 cpt_fsgid;
	__u8 cpt_comm[TASK_COMM_LEN];
	__u64 cpt_tls[GDT_ENTRY_TLS_ENTRIES];
	__u64 cpt_utime;
	__u64 cpt_stime;
	__u64 cpt_utimescaled;
	__u64 cpt_stimescaled;
	__u64 cpt_gtime;
	__u64 cpt_prev_utime;
	__u64 cpt_prev_stime;
	__u64 cpt_start_time;
	__u64 cpt_real_start_time;
	__u64 cpt_nvcsw;
	__u64 cpt_nivcsw;
	__u64 cpt_min_flt;
	__u64 cpt_maj_flt;
} __attribute__ ((aligned (8)));

struct cpt_obj_bits
{
	__u64 cpt_len;
	__u32 cpt_hdrlen;
	__u16 cpt_type;
	__u16 cpt_content;

	__u32 cpt_size;
	__u32 __cpt_pad1;
} __attribute__ ((aligned (8)));

#define CPT_SEG_ZERO 0
#define CPT_SEG_TLS1 1
#define CPT_SEG_TLS2 2
#define CPT_SEG_TLS3 3
#define CPT_SEG_USER32_DS 4
#define CPT_SEG_USER32_CS 5
#define CPT_SEG_USER64_DS 6
#define CPT_SEG_USER64_CS 7
#define CPT_SEG_LDT 256

struct cpt_x86_regs
{
	__u64 cpt_len;
	__u32 cpt_hdrlen;
	__u16 cpt_type;
	__u16 cpt_content;

	__u32 cpt_debugreg[8];
	__u32 cpt_gs;

	__u32 cpt_bx;
	__u32 cpt_cx;
	__u32 cpt_dx;
	__u32 cpt_si;
	__u32 cpt_di;
	__u32 cpt_bp;
	__u32 cpt_ax;
	__u32 cpt_ds;
	__u32 cpt_es;
	__u32 cpt_fs;
	__u32 cpt_orig_ax;
	__u32 cpt_ip;
	__u32 cpt_cs;
	__u32 cpt_flags;
	__u32 cpt_sp;
	__u32 cpt_ss;
} __attribute__ ((aligned (8)));

#define cpt_task_image_FIELDS(F) \
	F(cpt_task_image, cpt_len) \
	F(cpt_task_image, cpt_hdrlen) \
	F(cpt_task_image, cpt_type) \
	F(cpt_task_image, cpt_content) \
	F(cpt_task_image, cpt_state) \
	F(cpt_task_image, cpt_flags) \
	F(cpt_task_image, cpt_thrflags) \
	F(cpt_task_image, cpt_thrstatus) \
	F(cpt_task_image, cpt_pid) \
	F(cpt_task_image, cpt_tgid) \
	F(cpt_task_image, cpt_ppid) \
	F(cpt_task_image, cpt_rppid) \
	F(cpt_task_image, cpt_pgrp) \
	F(cpt_task_image, cpt_session) \
	F(cpt_task_image, cpt_old_pgrp) \
	F(cpt_task_image, cpt_leader) \
	F(cpt_task_image, cpt_set_tid) \
	F(cpt_task_image, cpt_clear_tid) \
	F(cpt_task_image, cpt_exit_code) \
	F(cpt_task_image, cpt_exit_signal) \
	F(cpt_task_image, cpt_pdeath_signal) \
	F(cpt_task_image, cpt_user) \
	F(cpt_task_image, cpt_uid) \
	F(cpt_task_image, cpt_euid) \
	F(cpt_task_image, cpt_suid) \
	F(cpt_task_image, cpt_fsuid) \
	F(cpt_task_image, cpt_gid) \
	F(cpt_task_image, cpt_egid) \
	F(cpt_task_image, cpt_sgid) \
	F(cpt_task_image, cpt_fsgid) \
	F(cpt_task_image, cpt_comm) \
	F(cpt_task_image, cpt_tls) \
	F(cpt_task_image, cpt_utime) \
	F(cpt_task_image, cpt_stime) \
	F(cpt_task_image, cpt_utimescaled) \
	F(cpt_task_image, cpt_stimescaled) \
	F(cpt_task_image, cpt_gtime) \
	F(cpt_task_image, cpt_prev_utime) \
	F(cpt_task_image, cpt_prev_stime) \
	F(cpt_task_image, cpt_start_time) \
	F(cpt_task_image, cpt_real_start_time) \
	F(cpt_task_image, cpt_nvcsw) \
	F(cpt_task_image, cpt_nivcsw) \
	F(cpt_task_image, cpt_min_flt) \
	F(cpt_task_image, cpt_maj_flt)

#define cpt_obj_bits_FIELDS(F) \
	F(cpt_obj_bits, cpt_len) \
	F(cpt_obj_bits, cpt_hdrlen) \
	F(cpt_obj_bits, cpt_type) \
	F(cpt_obj_bits, cpt_content) \
	F(cpt_obj_bits, cpt_size) \
	F(cpt_obj_bits, __cpt_pad1)

#define cpt_x86_regs_FIELDS(F) \
	F(cpt_x86_regs, cpt_len) \
	F(cpt_x86_regs, cpt_hdrlen) \
	F(cpt_x86_regs, cpt_type) \
	F(cpt_x86_regs, cpt_content) \
	F(cpt_x86_regs, cpt_debugreg) \
	F(cpt_x86_regs, cpt_gs) \
	F(cpt_x86_regs, cpt_bx) \
	F(cpt_x86_regs, cpt_cx) \
	F(cpt_x86_regs, cpt_dx) \
	F(cpt_x86_regs, cpt_si) \
	F(cpt_x86_regs, cpt_di) \
	F(cpt_x86_regs, cpt_bp) \
	F(cpt_x86_regs, cpt_ax) \
	F(cpt_x86_regs, cpt_ds) \
	F(cpt_x86_regs, cpt_es) \
	F(cpt_x86_regs, cpt_fs) \
	F(cpt_x86_regs, cpt_orig_ax) \
	F(cpt_x86_regs, cpt_ip) \
	F(cpt_x86_regs, cpt_cs) \
	F(cpt_x86_regs, cpt_flags) \
	F(cpt_x86_regs, cpt_sp) \
	F(cpt_x86_regs, cpt_ss)

static void print_field(size_t offset, const char *record, const char *field, const void *data, size_t size, size_t element)
{
	const unsigned char *bytes = data;

	printf("%zu %s %s", offset, record, field);
	for (size_t at = 0; at < size; at += element) {
		printf(" ");
		for (size_t byte = element; byte-- > 0;)
			printf("%02x", bytes[at + byte]);
	}
	printf("\n");
}

#define SHOW_LAYOUT(record, field) \
	printf(#record " " #field " %zu %zu\n", offsetof(struct record, field), sizeof(((struct record *)0)->field));
#define ELEMENT(member) _Generic((member), const __u8 *: 1, const __u32 *: 4, const __u64 *: 8, default: sizeof(member))
#define SHOW_VALUE(record, field) \
	print_field(offset, #record, #field, &r->field, sizeof(r->field), ELEMENT(r->field));
#define SHOW_RECORD(record) \
	do { \
		const struct record *r = (const void *)(image + offset); \
		record##_FIELDS(SHOW_VALUE) \
	} while (0)

static void show_layout(void)
{
	printf("cpt_task_image - 0 %zu\n", sizeof(struct cpt_task_image));
	cpt_task_image_FIELDS(SHOW_LAYOUT)
	printf("cpt_obj_bits - 0 %zu\n", sizeof(struct cpt_obj_bits));
	cpt_obj_bits_FIELDS(SHOW_LAYOUT)
	printf("cpt_x86_regs - 0 %zu\n", sizeof(struct cpt_x86_regs));
	cpt_x86_regs_FIELDS(SHOW_LAYOUT)
}

static int show_image(const char *path)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		return 2;
	fseek(file, 0, SEEK_END);
	size_t size = ftell(file);
	rewind(file);
	unsigned char *image = aligned_alloc(8, size + 8);
	if (!image || fread(image, 1, size, file) != size)
		return 2;
	fclose(file);

	for (size_t offset = *(__u32 *)(image + 4); offset < size;) {
		const struct cpt_object_hdr *hdr = (const void *)(image + offset);

		if (hdr->cpt_len < sizeof(*hdr) || hdr->cpt_len % 8 || hdr->cpt_len > size - offset)
			return 1;
		if (hdr->cpt_type == CPT_OBJ_TASK)
			SHOW_RECORD(cpt_task_image);
		if (hdr->cpt_type == CPT_OBJ_X86_REGS)
			SHOW_RECORD(cpt_x86_regs);
		if (hdr->cpt_type == CPT_OBJ_BITS) {
			const struct cpt_obj_bits *bits = (const void *)hdr;

			SHOW_RECORD(cpt_obj_bits);
			if (hdr->cpt_content == CPT_CONTENT_X86_FPUSTATE)
				print_field(offset, "cpt_obj_bits", "payload", image + offset + hdr->cpt_hdrlen, bits->cpt_size, 1);
		}
		offset += hdr->cpt_len;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return show_image(argv[1]);
	show_layout();
	return 0;
}
