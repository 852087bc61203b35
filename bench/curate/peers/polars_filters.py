"""The four filters on Polars' streaming engine. Usage: polars_filters.py CORPUS REMOVED count|strip

`count` counts letters and digits, `strip` deletes their runs and measures what is left: the same fraction, quicker.
"""

import sys
from pathlib import Path

import polars as pl
from common import FIRST_LINES, MARKER, MAX_LINE, MAX_MEAN_LINE, MIN_ALPHANUM, write_removed


def failing(alphanum: str) -> pl.Expr:
    """Whether a row fails one of the filters."""
    content = pl.col("content")
    num_chars = content.str.len_chars()
    num_breaks = content.str.count_matches("\n", literal=True)
    longest = content.str.split("\n").list.eval(pl.element().str.len_chars()).list.max()
    head = content.str.extract(rf"\A((?:[^\n]*\n){{0,{FIRST_LINES - 1}}}[^\n]*)", 1)
    if alphanum == "count":
        num_alphanum = content.str.count_matches(r"[\p{L}\p{N}]")
    else:
        num_alphanum = num_chars - content.str.replace_all(r"[\p{L}\p{N}]+", "").str.len_chars()
    return (
        (num_chars - num_breaks > MAX_MEAN_LINE * (num_breaks + 1))
        | (longest > MAX_LINE)
        | (num_alphanum < MIN_ALPHANUM * num_chars)
        | head.str.contains(MARKER)
    )


corpus, removed, alphanum = sys.argv[1:]
rows = pl.scan_parquet(Path(corpus) / "*.parquet").filter(failing(alphanum)).select("id").collect(engine="streaming")
write_removed(Path(removed), rows["id"])
