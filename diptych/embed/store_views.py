"""A store as one file that other tools load in one line: a Parquet table, or a matrix in NumPy's format."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from diptych.embed.npy_column import ColumnWriter
from diptych.embed.store import Shard, Store
from diptych.files import expanded, new_file, utf8, writing

_ROWS_AT_A_TIME = 16_384


def write_parquet(store: Store, path: str | Path) -> None:
    """Write a store as a Parquet table: key, vector (a list of D float32), and text, if the store has texts.

    The manifest stands in the table's metadata under "diptych". Memory holds 16,384 rows at a time.

    Raises:
        DataError: the file cannot be written, or the store is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, dim = expanded(path), store.manifest.dim
    has_texts = any("samples" in shard.digests for shard in store.shards)
    fields = [pa.field("key", pa.string()), pa.field("vector", pa.list_(pa.float32(), dim))]
    fields += [pa.field("text", pa.string())] if has_texts else []
    schema = pa.schema(fields, metadata={"diptych": json.dumps(_origin(store))})
    with contextlib.ExitStack() as stack:
        stack.enter_context(writing(path))
        file = stack.enter_context(stack.enter_context(new_file(path)).open("wb"))
        writer = stack.enter_context(pq.ParquetWriter(file, schema, use_dictionary=False, compression="zstd"))
        for shard in store.shards:
            texts = _first_texts(shard) if has_texts else []
            for start in range(0, shard.num_rows, _ROWS_AT_A_TIME):
                rows = slice(start, min(start + _ROWS_AT_A_TIME, shard.num_rows))
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(shard.vectors[rows].reshape(-1)), dim)
                columns = [pa.array(map(utf8, shard.keys[rows]), pa.string()), vectors]
                columns += [pa.array(texts[rows], pa.string())] if has_texts else []
                writer.write_table(pa.table(columns, schema=schema))


def write_npy(store: Store, path: str | Path) -> Path:
    """Write the vectors of a store as one float32 matrix (N, D), and its keys beside it as JSON lines.

    Returns:
        The file of keys: line i is the key of row i, a JSON string; a.npy has a.keys.jsonl.
    Raises:
        DataError: a file cannot be written, or the store is damaged.
    """
    path = expanded(path)
    keys = path.with_name(f"{path.stem}.keys.jsonl")
    with writing(path), new_file(path) as unfinished:
        column = ColumnWriter(unfinished, np.float32, store.manifest.dim)
        try:
            for shard in store.shards:
                for start in range(0, shard.num_rows, _ROWS_AT_A_TIME):
                    column.append(shard.vectors[start : start + _ROWS_AT_A_TIME])
            column.finish()
        finally:
            column.close()
    with writing(keys), new_file(keys) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for shard in store.shards:
            file.writelines(json.dumps(utf8(key), ensure_ascii=False) + "\n" for key in shard.keys)
    return keys


def _first_texts(shard: Shard) -> list[str | None]:
    table = shard.samples()
    if table is None:
        return [None] * shard.num_rows
    return [texts[0] if texts else None for texts in table["texts"].to_pylist()]


def _origin(store: Store) -> dict[str, Any]:
    manifest = store.manifest
    names = ("model", "model_fingerprint", "kind", "preprocessing", "precision", "backend", "data")
    return {name: getattr(manifest, name) for name in names}
