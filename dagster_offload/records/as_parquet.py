"""Records as Parquet, with typed columns. Needs the extra `parquet` (pyarrow)."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, BinaryIO

from dagster_offload.errors import SettingsError
from dagster_offload.records.columns import Column, flat

RECORDS_A_GROUP = 5_000


def write(records: Iterable[Mapping[str, Any]], columns: tuple[Column, ...], file: BinaryIO) -> int:
    """Write the records to `file` in groups, so that memory stays flat. Returns the number of records.

    Raises `SettingsError` if pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SettingsError(
            "Parquet needs pyarrow, beside dagster-offload: pip install 'dagster-offload[parquet]'; if pipx installed it, "
            "pipx inject dagster-offload pyarrow; if uv did, uv tool install '.[parquet]' in the clone of its repository"
        ) from None
    types = {
        "string": pyarrow.string(),
        "json": pyarrow.string(),
        "number": pyarrow.float64(),
        "integer": pyarrow.int64(),
        "boolean": pyarrow.bool_(),
        "date": pyarrow.date32(),
        "datetime": pyarrow.timestamp("us", tz="UTC"),
    }
    schema = pyarrow.schema([(column.name, types[column.type]) for column in columns])
    count = 0
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for group in _groups(records):
            rows = [_row(record, columns) for record in group]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _groups(records: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    remaining = iter(records)
    while group := list(islice(remaining, RECORDS_A_GROUP)):
        yield group


def _row(record: Mapping[str, Any], columns: tuple[Column, ...]) -> dict[str, Any]:
    values = flat(record, columns)
    for column in columns:
        value = values[column.name]
        if column.type == "json" and value is not None:
            values[column.name] = json.dumps(value, ensure_ascii=False)
        elif column.type == "number" and value is not None:
            values[column.name] = float(value)
    return values
