"""Segment selectors as the patch's ``encode_segment()`` writes them."""

CPT_SEG_ZERO = 0
CPT_SEG_TLS1 = 1
CPT_SEG_TLS2 = 2
CPT_SEG_TLS3 = 3
CPT_SEG_USER32_DS = 4
CPT_SEG_USER32_CS = 5
CPT_SEG_USER64_DS = 6
CPT_SEG_USER64_CS = 7
CPT_SEG_LDT = 256

_GDT_ENTRY_TLS_MIN = 12
_GDT_ENTRY_TLS_MAX = 14

# arch/x86/include/asm/segment.h of a 64-bit kernel. __USER32_DS and __USER_DS are one selector there, and the patch tests
# __USER32_DS first: CPT_SEG_USER64_DS is never written.
_STANDARD = {0x2B: CPT_SEG_USER32_DS, 0x23: CPT_SEG_USER32_CS, 0x33: CPT_SEG_USER64_CS}

_NAMES = {
    CPT_SEG_ZERO: "zero",
    CPT_SEG_TLS1: "tls1",
    CPT_SEG_TLS2: "tls2",
    CPT_SEG_TLS3: "tls3",
    CPT_SEG_USER32_DS: "user32_ds",
    CPT_SEG_USER32_CS: "user32_cs",
    CPT_SEG_USER64_DS: "user64_ds",
    CPT_SEG_USER64_CS: "user64_cs",
}


def encode_segment(selector: int) -> tuple[int, bool]:
    """Encode a segment selector.

    Returns the CPT_SEG_* number and whether the selector was valid: one with a privilege level other than 3, or none that
    the kernel gives to user space, encodes to CPT_SEG_ZERO and False, for the caller to report.
    """
    selector &= 0xFFFF
    if selector == 0:
        return CPT_SEG_ZERO, True
    if selector & 3 != 3:
        return CPT_SEG_ZERO, False
    index = selector >> 3
    if selector & 4:
        return CPT_SEG_LDT + index, True
    if _GDT_ENTRY_TLS_MIN <= index <= _GDT_ENTRY_TLS_MAX:
        return CPT_SEG_TLS1 + index - _GDT_ENTRY_TLS_MIN, True
    encoded = _STANDARD.get(selector, CPT_SEG_ZERO)
    return encoded, encoded != CPT_SEG_ZERO


def segment_name(encoded: int) -> str:
    """A name for an encoded segment, for people: ``user64_cs``, ``tls1``, ``ldt[3]``."""
    if CPT_SEG_LDT <= encoded < CPT_SEG_LDT + 8192:
        return f"ldt[{encoded - CPT_SEG_LDT}]"
    return _NAMES.get(encoded, f"{encoded:#x}")
