"""Compiles a program set with BCC. Runs in a worker process only: LLVM's 150 MB are given back when that ends."""

import ctypes
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cptbpf import rundir
from cptbpf.errors import UnsupportedError
from cptbpf.kernel import headers, sources
from cptbpf.kernel.btf import VMLINUX, Btf
from cptbpf.kernel.objects import MapObject, Objects, extract

_PREFACE = "#include <linux/types.h>\n#include <vmlinux.h>\n"
#: What to do where BCC is missing, or another module has its name.
BCC_REMEDY = "install Debian's package python3-bpfcc; the package named bcc on PyPI is something else: uninstall it"


def build(name: str, variant: sources.Variant) -> Objects:
    """Compiles one variant of a set.

    Raises UnsupportedError where BCC is missing or the source does not compile, with what clang said on standard error.
    """
    source = sources.text(name)
    with _header_tree(Btf(), source) as tree:
        module, lib = _compile(tree, source, variant.defines)
    maps, descriptors = _maps(module.module, lib)
    programs = []
    for program in variant.programs:
        start, size = (f(module.module, program.name.encode()) for f in (lib.bpf_function_start, lib.bpf_function_size))
        programs.append(extract(program.name, ctypes.string_at(start, size), descriptors))
    return Objects(variant.name, maps, tuple(programs))


def _compile(tree: str, source: str, defines: tuple[str, ...]) -> tuple[Any, Any]:
    os.environ["BCC_KERNEL_SOURCE"] = tree
    try:
        import bcc
    except ImportError:
        raise UnsupportedError("python3-bpfcc is not installed: there is no module bcc", BCC_REMEDY) from None
    if not hasattr(bcc, "BPF"):
        raise UnsupportedError(f"the module bcc of {bcc.__file__} is not BCC", BCC_REMEDY)
    flags = [f"-I{tree}/include", "-Wno-everything", *(f"-D{define}" for define in defines)]
    try:
        module = bcc.BPF(text=_PREFACE + source, cflags=flags)
    except Exception as error:  # BCC raises no narrower class; what clang said stands on standard error
        raise UnsupportedError(f"BCC could not compile the BPF programs: {error}") from None
    return module, bcc.lib


def _maps(module: Any, lib: Any) -> tuple[tuple[MapObject, ...], dict[int, str]]:
    """The maps of a module, and their names by the descriptors that BCC gave them."""
    for function in ("fd", "type", "flags", "key_size", "leaf_size", "max_entries"):
        getattr(lib, f"bpf_table_{function}_id").argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    lib.bpf_table_name.argtypes, lib.bpf_table_name.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_char_p
    maps, descriptors = [], {}
    for number in range(lib.bpf_num_tables(module)):
        name = lib.bpf_table_name(module, number).decode()
        sizes = (lib.bpf_table_key_size_id(module, number), lib.bpf_table_leaf_size_id(module, number))
        kind, flags = lib.bpf_table_type_id(module, number), lib.bpf_table_flags_id(module, number)
        maps.append(MapObject(name, kind, *sizes, lib.bpf_table_max_entries_id(module, number), flags))
        descriptors[lib.bpf_table_fd_id(module, number)] = name
    return tuple(maps), descriptors


@contextmanager
def _header_tree(btf: Btf, source: str) -> Iterator[str]:
    """The path of the header tree, from the cache where it was made before."""
    digest = hashlib.sha256(source.encode())
    for file in (VMLINUX, headers.__file__):
        with open(file, "rb") as stream:
            digest.update(stream.read())
    cache = rundir.directory()
    path = f"{cache}/headers-{digest.hexdigest()[:32]}" if cache else ""
    with rundir.held(path) as there:
        if there:
            yield path
            return
    files = headers.tree(btf, source)
    try:
        made, lock = _written(files, cache)
    except OSError:  # a full /run is no reason not to go on
        if cache is None:
            raise
        path, (made, lock) = "", _written(files, None)
    try:
        if path:
            try:
                os.rename(made, path)
                made = path
            except OSError:  # another run made it meanwhile
                pass
        yield made
    finally:
        os.close(lock)
        if made != path:
            shutil.rmtree(made, ignore_errors=True)


def _written(files: Mapping[str, str], folder: str | None) -> tuple[str, int]:
    """The path of a new tree of files, and a descriptor that holds it. Raises OSError, and leaves nothing then."""
    made = tempfile.mkdtemp(prefix="headers-", dir=folder)
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as rundir.held(): it stays, whatever the clock says of its age
        for name, content in files.items():
            file = os.path.join(made, name)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "w", encoding="utf-8") as stream:
                stream.write(content)
    except BaseException:
        os.close(lock)
        shutil.rmtree(made, ignore_errors=True)
        raise
    return made, lock
