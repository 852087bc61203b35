"""What passes between curation's steps: the columns of a gathered file, one row a file.

Owns names and types alone. `reading.py` makes such rows of archives and folders; tables (The Stack's Parquet, JSON
lines) are mapped onto them. Measures that were stored beside the content stand apart (`stored_*`), since all are
recomputed.
"""

from __future__ import annotations

import pyarrow as pa

from codechoir.documents import EVENT_COLUMNS

GATHERED_SCHEMA = pa.schema(
    [
        ("key", pa.string()),  # names the file; two contents may still share it
        ("package", pa.string()),  # the repository or package: what the split and the sample go by
        ("path", pa.string()),  # within the package, "/" between folders
        ("language", pa.string()),  # Language.id
        ("doubt", pa.string()),  # what is doubtful about the language; null: nothing
        ("content", pa.large_string()),  # null where it was not read; then `damage` says why
        (
            "damage",
            pa.string(),
        ),  # "REASON: detail", such as "not-utf8: byte 17: invalid start byte"; null where all is well
        ("licences", pa.list_(pa.string())),  # as the source declares them for the package or file; empty: not stated
        ("is_vendor", pa.bool_()),  # The Stack v2's flags; null where the source has none
        ("is_generated", pa.bool_()),
        ("stored_size", pa.int64()),  # The Stack's computed columns as they were stored; null where there are none
        ("stored_avg_line_length", pa.float64()),
        ("stored_max_line_length", pa.int64()),
        ("stored_alphanum_fraction", pa.float64()),
        ("stored_hexsha", pa.string()),
        *EVENT_COLUMNS,
    ]
)
