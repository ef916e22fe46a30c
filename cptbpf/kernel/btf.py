"""The kernel's own type information (BTF), read through libbpf.

Only the cold path needs it: to write the header tree that BCC compiles against, and to look up what a program attaches to.
"""

import ctypes
import enum
from collections.abc import Iterator
from typing import Any, NamedTuple

from cptbpf.errors import UnsupportedError

VMLINUX = "/sys/kernel/btf/vmlinux"


class Kind(enum.IntEnum):
    """BTF_KIND_* of linux/btf.h."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_MODIFIERS = {Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG}


class _Header(ctypes.Structure):  # struct btf_type
    _fields_ = (("name_off", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size_or_type", ctypes.c_uint32))


class _Member(ctypes.Structure):  # struct btf_member
    _fields_ = (("name_off", ctypes.c_uint32), ("type", ctypes.c_uint32), ("offset", ctypes.c_uint32))


class _Array(ctypes.Structure):  # struct btf_array
    _fields_ = (("type", ctypes.c_uint32), ("index_type", ctypes.c_uint32), ("nelems", ctypes.c_uint32))


class _Enumerator(ctypes.Structure):  # struct btf_enum
    _fields_ = (("name_off", ctypes.c_uint32), ("value", ctypes.c_int32))


class Type(NamedTuple):
    """One type. ``size`` is in bytes and only of an int, enum, struct or union; ``target`` only of what refers to another."""

    id: int
    kind: Kind
    name: str
    size: int
    target: int


class Member(NamedTuple):
    """A member of a struct, those of anonymous members included; ``offset`` in bytes from the outermost struct."""

    name: str
    offset: int
    type: int


def load_libbpf() -> ctypes.CDLL:
    """The library. Raises UnsupportedError where it is not installed."""
    try:
        return ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise UnsupportedError("libbpf.so.1 is not installed", "install Debian's package libbpf1") from None


class Btf:
    """The BTF of the running kernel.

    Raises UnsupportedError where the kernel carries none, or libbpf is not installed.
    """

    def __init__(self) -> None:
        lib = load_libbpf()
        lib.btf__load_vmlinux_btf.restype = ctypes.c_void_p
        lib.btf__free.argtypes = [ctypes.c_void_p]
        lib.btf__type_by_id.restype = ctypes.c_void_p
        lib.btf__type_by_id.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        lib.btf__name_by_offset.restype = ctypes.c_char_p
        lib.btf__name_by_offset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        lib.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
        handle = lib.btf__load_vmlinux_btf()
        if not handle:
            raise UnsupportedError(
                f"the kernel carries no BTF ({VMLINUX})",
                "boot a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions' are",
            )
        self._lib = lib
        self._handle = handle

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._lib.btf__free(self._handle)

    def find(self, name: str, *kinds: Kind) -> Type | None:
        """The type of that name and of the first of those kinds that has it."""
        for kind in kinds:
            number: int = self._lib.btf__find_by_name_kind(self._handle, name.encode(), kind)
            if number > 0:
                return self.type(number)
        return None

    def type(self, number: int) -> Type:
        """The type of that id. Id 0 is void and has no type: the caller asks first."""
        header = self._header(number)
        kind = Kind(header.info >> 24 & 0x1F)
        return Type(number, kind, self._name(header.name_off), header.size_or_type, header.size_or_type)

    def resolve(self, number: int) -> Type | None:
        """The type behind const, volatile, restrict and tags; None for void. Typedefs stay: they name."""
        while number:
            found = self.type(number)
            if found.kind not in _MODIFIERS:
                return found
            number = found.target
        return None

    def members(self, struct: Type, base: int = 0) -> Iterator[Member]:
        """The named members of a struct or union, anonymous ones flattened. Bit-fields are left out."""
        header = self._header(struct.id)
        count, bitfields = header.info & 0xFFFF, header.info >> 31
        for raw in self._tail(struct.id, _Member, count):
            if bitfields and raw.offset >> 24:
                continue
            offset = base + (raw.offset & 0xFFFFFF if bitfields else raw.offset) // 8
            name = self._name(raw.name_off)
            if name:
                yield Member(name, offset, raw.type)
                continue
            inner = self.resolve(raw.type)
            if inner is not None and inner.kind in (Kind.STRUCT, Kind.UNION):
                yield from self.members(inner, offset)

    def array(self, array: Type) -> tuple[int, int]:
        """Element type and number of elements."""
        raw = self._tail(array.id, _Array, 1)[0]
        return raw.type, raw.nelems

    def enumerators(self, enumeration: Type) -> Iterator[tuple[str, int]]:
        """Names and values of an enum of up to 32 bits."""
        for raw in self._tail(enumeration.id, _Enumerator, self._header(enumeration.id).info & 0xFFFF):
            yield self._name(raw.name_off), raw.value

    def signed(self, number: Type) -> bool:
        """Whether an int is signed."""
        return bool(self._tail(number.id, ctypes.c_uint32, 1)[0] >> 24 & 1)

    def attach_id(self, name: str, kind: Kind = Kind.FUNC) -> int:
        """The BTF id that a program names as what it attaches to.

        Raises UnsupportedError where the kernel has nothing of that name.
        """
        found = self.find(name, kind)
        if found is None:
            raise UnsupportedError(f"the kernel has no {name}")
        return found.id

    def _header(self, number: int) -> _Header:
        return _Header.from_address(self._lib.btf__type_by_id(self._handle, number))

    def _tail(self, number: int, ctype: Any, count: int) -> Any:
        return (ctype * count).from_address(self._lib.btf__type_by_id(self._handle, number) + ctypes.sizeof(_Header))

    def _name(self, offset: int) -> str:
        name: bytes = self._lib.btf__name_by_offset(self._handle, offset)
        return name.decode()
