"""Opens a program set. A shared one (the iterators) comes from its pins where an earlier run left them; a private one, which is
attached for as long as its process lives, is loaded from the compiled objects that an earlier run kept. Only where there is
neither does a worker compile.

A warm run of an iterator opens a few files of bpffs; no warm run starts a compiler or imports bcc.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from cptbpf import errors, rundir
from cptbpf.errors import PrivilegeError, UnsupportedError
from cptbpf.kernel import bpf, pins, sources


class Loaded(NamedTuple):
    """A private set: the variant that the kernel took, why it refused the ones before, and descriptors by name: of its maps and
    links, and of its programs, to which the way from a link takes CAP_SYS_ADMIN."""

    variant: str
    refused: tuple[tuple[str, str], ...]
    descriptors: dict[str, int]
    programs: dict[str, int]

    def close(self) -> None:
        """Detaches the programs and gives the maps back."""
        for descriptor in (*self.descriptors.values(), *self.programs.values()):
            os.close(descriptor)


def open_set(name: str) -> dict[str, int]:
    """Descriptors of a shared set's maps and links, by name. The caller closes them.

    Raises UnsupportedError where the kernel or BCC lacks what is needed, PrivilegeError where bpf(2) is not permitted.
    """
    key = f"{name}-{sources.key(name)}"
    found = _from_pins(name, key)
    if found is not None:
        return found
    with pins.locked():
        found = _from_pins(name, key)  # another run may have compiled it while this one waited for the lock
        if found is None:
            loaded = open_private(name)
            found = loaded.descriptors
            for program in loaded.programs.values():
                os.close(program)
            pins.keep(key, found)
    return found


def open_private(name: str, sizes: Mapping[str, int] | None = None, only: str = "") -> Loaded:
    """Loads and attaches a set for this process alone, by the first variant that the kernel takes.

    ``only``
        The one variant to try, by its name.
    ``sizes``
        How many elements (bytes, of a ring buffer) a map is to have, by its name, where not as many as its source says.

    Raises UnsupportedError with every refusal where it takes none of several, else the one refusal as it is; UnsupportedError
    where the set has no variant of that name.
    """
    from cptbpf.kernel import loader

    refused: list[tuple[str, str]] = []
    uncompiled: list[tuple[sources.Variant, str]] = []
    variants = sources.SETS[name].variants
    known = ", ".join(variant.name for variant in variants)
    last: errors.CptbpfError = UnsupportedError(f"the set {name} has no variant {only}: it has {known}")
    for variant in variants:
        if only not in ("", variant.name):
            continue
        try:
            compiled = _objects(name, variant)
        except UnsupportedError as error:
            uncompiled.append((variant, str(error)))
            refused.append((variant.name, str(error)))
            last = error
            continue
        maps = (table._replace(max_entries=(sizes or {}).get(table.name, table.max_entries)) for table in compiled.maps)
        try:
            descriptors, loaded = loader.load(compiled._replace(maps=tuple(maps)), variant)
        except (UnsupportedError, PrivilegeError) as error:  # fentry is refused with EPERM where it is switched off
            refused.append((variant.name, str(error)))
            last = error
            continue
        _remember(name, uncompiled)
        return Loaded(variant.name, tuple(refused), descriptors, loaded)
    if len(refused) > 1:
        raise UnsupportedError("; ".join(f"{variant}: {why}" for variant, why in refused), last.remedy)
    raise last


def _from_pins(name: str, key: str) -> dict[str, int] | None:
    folder = pins.folder(key)
    if folder is None:
        return None
    wanted = sources.SETS[name]
    opened: dict[str, int] = {}
    try:
        for item in (*(program.name for program in wanted.variants[0].programs), *wanted.maps):
            opened[item] = bpf.obj_get(f"{folder}/{item}")
    except FileNotFoundError:
        for descriptor in opened.values():
            os.close(descriptor)
        return None
    return opened


def _remember(name: str, uncompiled: list[tuple[sources.Variant, str]]) -> None:
    """Keeps why variants do not compile here while a later one does: the next run then need not try (BCC makes a set's maps
    when it compiles, which fails where the kernel has no such map)."""
    for variant, why in uncompiled:
        if path := _kept("refusal", name, variant):
            rundir.write(path, why.encode())


def _kept(what: str, name: str, variant: sources.Variant) -> str | None:
    where = rundir.directory()
    return where and f"{where}/{what}-{name}-{variant.name}-{sources.key(name)}"


def _objects(name: str, variant: sources.Variant) -> Any:
    """The compiled objects of a variant, from the run directory or fresh from the worker."""
    from cptbpf.kernel import objects

    refusal, path = _kept("refusal", name, variant), _kept("objects", name, variant)
    if refusal and (said := rundir.read(refusal)) is not None:
        raise UnsupportedError(said.decode(errors="replace"))
    if path and (kept := rundir.read(path)) is not None:
        try:
            return objects.parse(kept)
        except (ValueError, TypeError, KeyError):  # cut short by a full disk or a crash
            with suppress(FileNotFoundError):
                os.unlink(path)
    compiled = _from_worker(name, variant)
    parsed = objects.parse(compiled)
    if path:
        rundir.write(path, compiled)
        rundir.sweep()
    return parsed


def _from_worker(name: str, variant: sources.Variant) -> bytes:
    import json
    import subprocess
    import sys

    from cptbpf.kernel.loader import unlimited_memlock

    with unlimited_memlock():  # who may not, is told so before seconds are spent on compiling
        os.close(bpf.map_create("probe", bpf.MAP_ARRAY, 4, 8, 1, 0))
    # -P: a file of the working directory must not be imported in place of a module
    command = [sys.executable, "-P", "-m", "cptbpf.kernel.worker", name, variant.name]
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": home}, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    said = done.stderr.decode(errors="replace").splitlines()
    if done.returncode or not done.stdout:
        last = said[-1] if said else f"exit status {done.returncode}"
        raise UnsupportedError(f"the BPF compiler died: {last}", "'cptbpf check' shows what is missing")
    if done.stdout.startswith(b'{"error"'):
        failure = json.loads(done.stdout)
        first = next((f": {line}" for line in said if "error:" in line), "")
        raise getattr(errors, failure["error"])(failure["message"] + first, failure["remedy"])
    return done.stdout
