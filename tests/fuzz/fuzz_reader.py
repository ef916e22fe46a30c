"""Fuzz the image reader with atheris, which is no dependency of the project.

    python3 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris construct
    mkdir -p /tmp/fuzz/corpus
    /tmp/fuzz/bin/python tests/fuzz/fuzz_reader.py -max_total_time=600 -max_len=8192 /tmp/fuzz/corpus

The checks at both ends of a file would stop every mutation, so that they are made right first: META's checksum and the
digest. What the reader takes must then come out of the encoder again byte for byte, and through JSON too.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz.target import fuzz, repair_meta

with atheris.instrument_imports(include=["cptbpf"]):
    from cptbpf.errors import ImageError
    from cptbpf.image import layout
    from cptbpf.image.encode import META_CRC_OFFSET
    from cptbpf.image.jsonio import from_json, to_json
    from cptbpf.image.model import (
        CertificateEntry,
        Exe,
        Head,
        Image,
        Meta,
        PidLevel,
        RawObject,
        TaskImage,
        TaskRecord,
        Trailer,
        X86_64Regs,
        X86Regs,
        XstateComponent,
    )
    from cptbpf.image.reader import parse
    from cptbpf.image.writer import encode_image


def repaired(data: bytes) -> bytes:
    """The file with META's checksum and the digest made right, as far as it has both."""
    body = bytearray(data[:-32])
    repair_meta(body, META_CRC_OFFSET)
    return bytes(body) + sha256(body).digest()


def check(data: bytes) -> None:
    """One input, as it is and repaired."""
    for candidate in (data, repaired(data)):
        try:
            image = parse(candidate)
        except ImageError:
            continue
        assert encode_image(image) == candidate
        assert encode_image(from_json(json.loads(json.dumps(to_json(image))))) == candidate


def seeds() -> list[bytes]:
    """Images that have every object of the format."""
    groups = {name: tuple(range(len(group.fields))) for name, group in layout.GROUPS.items()}
    ext = {
        **groups,
        "pids": (PidLevel(0, 1, 2),),
        "groups": (1, 2, 3),
        "kstack": ("a+0x1", "b"),
        "cgroup": b"/c",
        "exe": Exe(b"/bin/x", b"id"),
        "cmdline": b"x\0",
    }
    record = TaskRecord._make([*range(26), b"comm".ljust(16, b"\0"), (1, 2, 3), *range(13)])
    wide = TaskImage(record, X86_64Regs(tuple(range(8)), *range(27)), bytes(512), bytes(640), ext, {"task": "kernel:B"})
    narrow = TaskImage(record, X86Regs(tuple(range(8)), *range(17)), None, None, {}, {"task": "kernel:B"})
    odd = wide._replace(ext={"kregs": wide.regs, "kfxsave": bytes(512), "kxsave": bytes(576)}, provenance={"a": "absent: b"})
    strange = narrow._replace(unknown=(RawObject(0x2FFF, 1, 24, bytes(16)),))
    meta = Meta(strings={"hostname": "h"}, xstate=(XstateComponent(2, 576, 256, 0),))
    entries = (CertificateEntry(1, "f", "a", "b"),)
    sets = ((), (wide,), (narrow, narrow), (odd, strange), (wide, narrow, odd, strange))
    return [encode_image(Image(Head(1), meta, tasks, Trailer(len(tasks), 1, entries))) for tasks in sets]


if __name__ == "__main__":
    fuzz(check, seeds())
