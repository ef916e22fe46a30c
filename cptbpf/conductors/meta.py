"""What an image or a recording says of the machine and of what was asked for."""

from cptbpf import __version__
from cptbpf.conductors.target import Target
from cptbpf.image.model import Meta
from cptbpf.proc.system import Clocks, system


def meta_of(target: Target, clocks: Clocks, kind: int, **strings: str) -> Meta:
    """META without what only an image has (freeze, registers, xstate). ``strings`` are added to the usual ones."""
    machine = system()
    return Meta(
        kind=kind,
        pid_ns=target.inode,
        pid_ns_level=target.level,
        user_ns=target.user_ns,
        realtime=clocks.realtime,
        monotonic=clocks.monotonic,
        boottime=clocks.boottime,
        hz=machine.hz,
        user_hz=machine.user_hz,
        page_size=machine.page_size,
        strings={
            "release": machine.release,
            "version": machine.version,
            "machine": machine.machine,
            "build_id": machine.build_id,
            "boot_id": machine.boot_id,
            "hostname": machine.hostname,
            "time_unit": "ns",
            "writer": f"cptbpf {__version__}",
            "request": target.request,
            **strings,
        },
    )
