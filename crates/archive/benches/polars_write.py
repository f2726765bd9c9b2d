"""The peer of the archive's bench: writes the same rows with polars, once for each line on standard input.

usage: polars_write.py ROWS.parquet OUT.parquet
"""

import os
import sys
import time

import polars as pl

rows, out = sys.argv[1:]
frame = pl.read_parquet(rows).rechunk()
for _ in sys.stdin:
    begun = time.perf_counter()
    frame.write_parquet(out, compression="zstd", compression_level=3, statistics=True, row_group_size=131_072)
    print(time.perf_counter() - begun, os.path.getsize(out), flush=True)
