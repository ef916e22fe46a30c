"""The header tree that BCC compiles against, generated from BTF: no kernel headers are needed on the machine.

Of each kernel struct that the sources of bpf/ use, only the members that they name are emitted, at the offsets that BTF gives.
Which ones is found by reading the sources: a struct that they name, or that such a member leads to, and in it every member
whose name occurs in them. ``HAVE_<struct>_<member>`` stands beside each, which is what bpf/compat.h goes by.
"""

import re

from cptbpf.kernel.btf import Btf, Kind, Type

_IDENTIFIER = re.compile(r"\b[A-Za-z_]\w*\b")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_OWN_STRUCT = re.compile(r"\bstruct\s+(\w+)\s*\{")
_NAMED_STRUCT = re.compile(r"\b(?:struct\s+|SIZEOF_)(\w+)")

# Enums whose enumerators the sources name: BTF has no index by enumerator.
_ENUMS = ("pid_type",)

_TYPES_H = """\
#ifndef CPTBPF_TYPES_H
#define CPTBPF_TYPES_H
typedef unsigned char __u8, u8; typedef signed char __s8, s8;
typedef unsigned short __u16, u16; typedef signed short __s16, s16;
typedef unsigned int __u32, u32; typedef signed int __s32, s32;
typedef unsigned long long __u64, u64; typedef signed long long __s64, s64;
typedef __u16 __be16, __le16, __sum16; typedef __u32 __be32, __le32, __wsum; typedef __u64 __be64, __le64;
typedef unsigned long size_t; typedef long ssize_t; typedef int pid_t; typedef unsigned long uintptr_t;
typedef _Bool bool;
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define true 1
#define false 0
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#ifndef NULL
#define NULL ((void *)0)
#endif
#endif
"""

_VERSION_H = """\
#define LINUX_VERSION_CODE 0
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
"""

_BPF_COMMON_H = """\
#ifndef _UAPI__LINUX_BPF_COMMON_H__
#define _UAPI__LINUX_BPF_COMMON_H__
#define BPF_CLASS(code) ((code) & 0x07)
#define BPF_LD 0x00
#define BPF_LDX 0x01
#define BPF_ST 0x02
#define BPF_STX 0x03
#define BPF_ALU 0x04
#define BPF_JMP 0x05
#define BPF_RET 0x06
#define BPF_MISC 0x07
#define BPF_SIZE(code) ((code) & 0x18)
#define BPF_W 0x00
#define BPF_H 0x08
#define BPF_B 0x10
#define BPF_MODE(code) ((code) & 0xe0)
#define BPF_IMM 0x00
#define BPF_ABS 0x20
#define BPF_IND 0x40
#define BPF_MEM 0x60
#define BPF_LEN 0x80
#define BPF_MSH 0xa0
#define BPF_OP(code) ((code) & 0xf0)
#define BPF_ADD 0x00
#define BPF_SUB 0x10
#define BPF_MUL 0x20
#define BPF_DIV 0x30
#define BPF_OR 0x40
#define BPF_AND 0x50
#define BPF_LSH 0x60
#define BPF_RSH 0x70
#define BPF_NEG 0x80
#define BPF_MOD 0x90
#define BPF_XOR 0xa0
#define BPF_JA 0x00
#define BPF_JEQ 0x10
#define BPF_JGT 0x20
#define BPF_JGE 0x30
#define BPF_JSET 0x40
#define BPF_SRC(code) ((code) & 0x08)
#define BPF_K 0x00
#define BPF_X 0x08
#ifndef BPF_MAXINSNS
#define BPF_MAXINSNS 4096
#endif
#endif
"""

_FIXED = {
    "include/linux/kconfig.h": "#define CONFIG_BPF_SYSCALL 1\n#define CONFIG_64BIT 1\n",
    "include/linux/types.h": _TYPES_H,
    "include/linux/version.h": _VERSION_H,
    "include/linux/bpf_common.h": _BPF_COMMON_H,
    "include/linux/log2.h": "",
    "include/asm/page.h": "#define PAGE_SIZE 4096UL\n",
    "include/uapi/linux/bpf.h": "",
    "include/uapi/linux/if_packet.h": "",
    "arch/x86/include/.keep": "",
}


def tree(btf: Btf, sources: str) -> dict[str, str]:
    """The header tree for ``sources`` (the text of every file of bpf/): relative path to content."""
    return {**_FIXED, "include/vmlinux.h": _Emitter(btf, sources).render()}


class _Emitter:
    """Collects the structs that the sources need, each after those that it embeds."""

    def __init__(self, btf: Btf, sources: str) -> None:
        text = _COMMENT.sub(" ", sources)
        self._btf = btf
        self._words = set(_IDENTIFIER.findall(text))
        self._own = set(_OWN_STRUCT.findall(text))
        self._structs = [name for name in dict.fromkeys(_NAMED_STRUCT.findall(text)) if name not in self._own]
        self._bodies: dict[str, str] = {}
        self._forward: list[str] = []
        self._pending: list[Type] = []

    def render(self) -> str:
        for name in self._structs:
            found = self._btf.find(name, Kind.STRUCT, Kind.UNION)
            if found is not None:
                self._pending.append(found)
        while self._pending:
            self._emit(self._pending.pop(0))
        lines = ["#ifndef CPTBPF_VMLINUX_H", "#define CPTBPF_VMLINUX_H", "#include <linux/types.h>"]
        lines += self._enumerators()
        lines += [f"{name};" for name in dict.fromkeys(self._forward)]
        lines += self._bodies.values()
        lines.append("#endif\n")
        return "\n".join(lines)

    def _enumerators(self) -> list[str]:
        lines = []
        for name in _ENUMS:
            found = self._btf.find(name, Kind.ENUM)
            if found is not None:
                lines += [f"#define {key} ({value})" for key, value in self._btf.enumerators(found) if key in self._words]
        helpers = self._btf.find("bpf_func_id", Kind.ENUM)
        if helpers is not None:
            # BCC's own linux/bpf.h knows every helper of its day: only the kernel's list says which exist here
            lines += [f"#define HAVE_{key}" for key, _ in self._btf.enumerators(helpers) if f"HAVE_{key}" in self._words]
        return lines

    def _emit(self, struct: Type) -> None:
        """Writes ``struct`` as a union of its members, each padded to its place, and of its size."""
        tag = _tag(struct)
        if tag in self._bodies:
            return
        self._bodies[tag] = ""  # a struct cannot embed itself, but can point to itself
        members, have = [f"char __size[{struct.size}];"], []
        for member in self._btf.members(struct):
            if member.name in self._words and (declared := self._declare(member.name, member.type)):
                pad = f"char __pad_{member.name}[{member.offset}]; " if member.offset else ""
                members.append(f"struct {{ {pad}{declared}; }};")
                have.append(f"#define HAVE_{struct.name}_{member.name}")
        body = "\n".join([*have, f"#define SIZEOF_{struct.name} {struct.size}", f"{tag} {{ union {{", *members, "}; };"])
        del self._bodies[tag]  # what it embeds was entered meanwhile: this one comes after
        self._bodies[tag] = body

    def _declare(self, name: str, number: int) -> str:
        """The C declaration of a member, or "" for a type that a program has no use for.

        Scalars are volatile: LLVM otherwise merges the reads of neighbours into one, which the verifier refuses.
        """
        found = self._strip(number)
        if found is None:
            return ""
        if found.kind == Kind.PTR:
            pointed = self._strip(found.target)
            if pointed is not None and pointed.kind == Kind.STRUCT and pointed.name:
                self._forward.append(_tag(pointed))
                if pointed.name not in self._own:
                    self._pending.append(pointed)
                return f"{_tag(pointed)} * volatile {name}"
            return f"void * volatile {name}"
        if found.kind == Kind.ARRAY:
            element, count = self._btf.array(found)
            inner = self._declare(name, element)
            return f"{inner}[{count}]" if inner else ""
        if found.kind in (Kind.INT, Kind.ENUM):
            sign = "s" if found.kind == Kind.INT and self._btf.signed(found) else "u"
            return f"volatile {sign}{found.size * 8} {name}" if found.size in (1, 2, 4, 8) else ""
        if found.kind in (Kind.STRUCT, Kind.UNION) and found.size:
            self._emit(found)
            return f"{_tag(found)} {name}"
        return ""

    def _strip(self, number: int) -> Type | None:
        """The type behind modifiers and typedefs. A struct that only a typedef names takes that name."""
        name = ""
        found = self._btf.resolve(number)
        while found is not None and found.kind == Kind.TYPEDEF:
            name = found.name
            found = self._btf.resolve(found.target)
        if found is not None and found.kind in (Kind.STRUCT, Kind.UNION) and not found.name:
            found = found._replace(name=name or f"anonymous_{found.id}")
        return found


def _tag(struct: Type) -> str:
    # a union is written as a struct that holds an anonymous union, like every other
    return f"struct {struct.name}"
