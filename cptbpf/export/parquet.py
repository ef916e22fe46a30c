"""A recording as a Parquet table: a row for each event, a column for each field of the catalogue."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from cptbpf.errors import UnsupportedError
from cptbpf.image.model import EVENT_DROP, EVENT_NAMES, RecordedEvent, drop_reason
from cptbpf.image.provenance import absent_fields
from cptbpf.image.rows import FIELDS, NAMES

if TYPE_CHECKING:
    from cptbpf.image.output import Output

_ROWS = 20_000  # of a row group: what is in memory at a time
_TYPES = {"u32": "uint32", "s32": "int32", "u64": "uint64", "char[16]": "string"}
#: What stands before the fields of the task; ``realtime_ns`` is CLOCK_REALTIME by the clocks when the recording began.
LEADING = ("event", "realtime_ns", "monotonic_ns", "old_pid", "lost", "why")
_SHOWN = tuple(at for at, field in enumerate(FIELDS) if field.ctype in _TYPES)
COLUMNS = (*LEADING, *(NAMES[at] for at in _SHOWN))
_COMM_AT = _SHOWN.index(NAMES.index("comm"))


class _File:
    """What pyarrow writes to."""

    closed = False

    def __init__(self, output: "Output") -> None:
        self._output, self._at = output, 0

    def write(self, data: bytes) -> int:
        self._output.write(data)
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def write(output: "Output", ahead: int, events: Iterable[RecordedEvent], escape: Callable[[bytes], str]) -> None:
    """Write the table; ``ahead`` is what CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, in ns.

    Raises UnsupportedError where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UnsupportedError("Parquet needs the package pyarrow", "install it: pip install 'cptbpf[export]'") from None
    leading = [("event", pa.string()), ("realtime_ns", pa.int64()), ("monotonic_ns", pa.uint64())]
    leading += [("old_pid", pa.uint32()), ("lost", pa.uint64()), ("why", pa.string())]
    types = [(NAMES[at], getattr(pa, _TYPES[FIELDS[at].ctype])()) for at in _SHOWN]
    schema = pa.schema([*leading, *types])
    with pq.ParquetWriter(_File(output), schema, compression="zstd") as writer:
        rows: list[tuple[Any, ...]] = []
        for event in events:
            rows.append(_row(event, ahead, escape))
            if len(rows) >= _ROWS:
                writer.write_table(_table(pa, schema, rows))
                rows.clear()
        if rows:
            writer.write_table(_table(pa, schema, rows))


def _table(pa: Any, schema: Any, rows: list[tuple[Any, ...]]) -> Any:
    columns = [pa.array(column, type=field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


def _row(event: RecordedEvent, ahead: int, escape: Callable[[bytes], str]) -> tuple[Any, ...]:
    lost, why = (event.lost, drop_reason(event.flags)) if event.kind == EVENT_DROP else (None, None)
    head = (EVENT_NAMES[event.kind], event.time + ahead, event.time, event.old_pid or None, lost, why)
    if event.row is None:
        return head + (None,) * len(_SHOWN)
    absent = absent_fields(event.said)
    values = [None if NAMES[at] in absent else event.row[at] for at in _SHOWN]
    comm = values[_COMM_AT]
    values[_COMM_AT] = None if comm is None else escape(comm)
    return (*head, *values)
