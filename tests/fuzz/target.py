"""What the fuzz targets share: the seeds go into the corpus, and atheris is started."""

import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import atheris


def fuzz(check: Callable[[bytes], None], seeds: Sequence[bytes]) -> None:
    """Write the seeds into the first corpus directory of the command line, then fuzz."""
    corpus = next((Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if corpus is not None and corpus.is_dir():
        for seed in seeds:
            (corpus / sha256(seed).hexdigest()[:16]).write_bytes(seed)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


def repair_meta(data: bytearray, crc_offset: int) -> int:
    """Makes META's checksum right where there is a whole META; returns where it ends, 0 where there is none."""
    meta = int.from_bytes(data[4:8], "little")
    meta += -meta % 8
    end = meta + int.from_bytes(data[meta : meta + 8], "little")
    if not meta + crc_offset + 4 <= end <= len(data):
        return 0
    at = meta + crc_offset
    data[at : at + 4] = bytes(4)
    data[at : at + 4] = crc32(data[meta:end]).to_bytes(4, "little")
    return end
