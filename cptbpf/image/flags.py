"""Values that the patch re-encodes: PF_* bits and times."""

from cptbpf import sched

# Bit numbers of cpt_flags, from the patch.
CPT_PF_EXITING = 0
CPT_PF_FORKNOEXEC = 1
CPT_PF_SUPERPRIV = 2
CPT_PF_DUMPCORE = 3
CPT_PF_SIGNALED = 4
CPT_PF_USED_MATH = 5

_PF_TO_CPT = (
    (sched.PF_EXITING, 1 << CPT_PF_EXITING),
    (sched.PF_FORKNOEXEC, 1 << CPT_PF_FORKNOEXEC),
    (sched.PF_SUPERPRIV, 1 << CPT_PF_SUPERPRIV),
    (sched.PF_DUMPCORE, 1 << CPT_PF_DUMPCORE),
    (sched.PF_SIGNALED, 1 << CPT_PF_SIGNALED),
    (sched.PF_USED_MATH, 1 << CPT_PF_USED_MATH),
)

_NAMES = ("EXITING", "FORKNOEXEC", "SUPERPRIV", "DUMPCORE", "SIGNALED", "USED_MATH")

_NSEC_PER_SEC = 1_000_000_000


def encode_task_flags(pf_flags: int) -> int:
    """The CPT_PF_* bits of ``task->flags``; other PF_* bits have no place in the image's cpt_flags."""
    encoded = 0
    for pf, cpt in _PF_TO_CPT:
        if pf_flags & pf:
            encoded |= cpt
    return encoded


def task_flag_names(cpt_flags: int) -> tuple[str, ...]:
    """Names of the bits in cpt_flags, for people."""
    return tuple(name for bit, name in enumerate(_NAMES) if cpt_flags & (1 << bit))


def timespec_export(nanoseconds: int) -> int:
    """``sec << 32 | nsec`` of a time in ns."""
    seconds, rest = divmod(nanoseconds, _NSEC_PER_SEC)
    return seconds << 32 | rest


def timespec_import(value: int) -> int:
    """Nanoseconds of a ``sec << 32 | nsec`` time."""
    return (value >> 32) * _NSEC_PER_SEC + (value & 0xFFFFFFFF)
