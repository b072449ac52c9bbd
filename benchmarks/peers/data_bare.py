"""The same work without a service: `python data_bare.py duckdb|polars WORK SOURCE TARGET`.

Prints the seconds from the first call of the library to the last, its import not counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

QUERY = (
    "SELECT city, count(*) AS n, avg(amount) AS mean, sum(quantity) AS sold, max(sold_at) AS latest"
    " FROM input WHERE NOT returned GROUP BY city ORDER BY city"
)


def with_duckdb(work: str, source: str, target: str) -> Callable[[], None]:
    import duckdb  # noqa: PLC0415 - each process has one of the two

    def run() -> None:
        connection = duckdb.connect()
        connection.execute(f"CREATE VIEW input AS SELECT * FROM read_csv('{source}')")
        if work == "query":
            connection.execute(f"COPY ({QUERY}) TO '{target}' (HEADER)")
        elif work == "convert":
            connection.execute(f"COPY (SELECT * FROM input) TO '{target}' (FORMAT parquet)")
        else:
            connection.execute("SUMMARIZE input").fetchall()
        connection.close()

    return run


def with_polars(work: str, source: str, target: str) -> Callable[[], None]:
    import polars as pl  # noqa: PLC0415

    def run() -> None:
        frame = pl.scan_csv(source, try_parse_dates=True)
        if work == "query":
            pl.SQLContext(input=frame).execute(QUERY).sink_csv(target)
        elif work == "convert":
            frame.sink_parquet(target)
        else:
            frame.describe()

    return run


def main() -> None:
    library, work, source, target = sys.argv[1:]
    run = {"duckdb": with_duckdb, "polars": with_polars}[library](work, source, target)
    began = time.monotonic()
    run()
    print(time.monotonic() - began)


if __name__ == "__main__":
    main()
