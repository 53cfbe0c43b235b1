"""Read requests from Parquet and from tables in memory: a column is a field, or ``metadata.x`` within one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ddim_core.errors import Fault, InputError
from producer.inputs.columns import Counts, folded, header_faults
from producer.requests.rows import Row
from producer.requests.values import ABSENT, plain_value

_ROWS_AT_ONCE = 1000


def read_parquet(source: str, file: BinaryIO) -> Iterator[Row | Fault]:
    """Yield a row for each row of the table, numbered from 1; null and NaN leave a field out.

    Raises:
        InputError: The file, which must be seekable, is no Parquet file.
    """
    try:
        with pq.ParquetFile(file) as table:
            yield from arrow_rows(source, table.schema_arrow, table.iter_batches(batch_size=_ROWS_AT_ONCE))
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        OverflowError,
    ) as exc:  # the last two for values that no text or date is
        reason = str(exc).split("\n", maxsplit=1)[0]
        raise InputError(f"a .parquet file must be a Parquet table, got {source!r}: {reason}") from exc


def arrow_rows(source: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[Row | Fault]:
    """Yield a row for each row of batches, or what is wrong with the names of their columns."""
    maps = frozenset(field.name for field in schema if pa.types.is_map(field.type))
    dicts = (_named(row, maps) for batch in batches for row in batch.to_pylist())
    yield from table_rows(source, None, schema.names, dicts)


def table_rows(
    source: str, line: int | None, header: list[str], rows: Iterable[dict[str, Any]]
) -> Iterator[Row | Fault]:
    """Yield a row for each row of a table whose values have types, from number 1, or what is wrong with its header."""
    if faults := header_faults(source, line, header):
        yield from faults
        return
    counts = Counts(header)
    for number, values in enumerate(rows, start=1):
        cells = counts.without(values, source, number)
        if isinstance(cells, Fault):
            yield cells
        else:
            yield Row(source, number, folded(present(cells)))


def present(fields: dict[Any, Any]) -> dict[str, Any]:
    """Return fields in plain types, without those that hold nothing, as NaN is nothing in a table with gaps."""
    plain = ((name, plain_value(value)) for name, value in fields.items())
    return {name: value for name, value in plain if value is not ABSENT}


def _named(row: dict[str, Any], maps: frozenset[str]) -> dict[str, Any]:
    """Return a row with its maps, which are lists of pairs, as dicts."""
    return (
        {name: dict(value) if name in maps and value is not None else value for name, value in row.items()}
        if maps
        else row
    )
