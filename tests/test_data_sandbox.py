"""Hostile SQL: each attack is a clear error for good, nothing leaks, and the next job runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.queue.records.drafts import JobDraft
from app.queue.records.views import JobView
from tests.harness import Service, draft, service

SECRET = "the-secret-of-another"
ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
# {neighbor} is another client's upload, {folder} where it stands.
FILES = """
SELECT * FROM read_csv('{neighbor}')
SELECT * FROM read_csv_auto('{neighbor}')
SELECT * FROM read_text('{neighbor}')
SELECT * FROM read_blob('{neighbor}')
SELECT * FROM read_json('{neighbor}')
SELECT * FROM read_json_auto('{neighbor}')
SELECT * FROM read_json_objects('{neighbor}')
SELECT * FROM read_ndjson('{neighbor}')
SELECT * FROM read_parquet('{neighbor}')
SELECT * FROM parquet_metadata('{neighbor}')
SELECT * FROM parquet_file_metadata('{neighbor}')
SELECT * FROM parquet_bloom_probe('{neighbor}', 'a', 1)
SELECT * FROM read_duckdb('{neighbor}')
SELECT * FROM sniff_csv('{neighbor}')
SELECT * FROM glob('{folder}/*')
SELECT * FROM read_text('/proc/self/environ')
SELECT * FROM read_text('/proc/self/fd/3')
FROM '{neighbor}'
FROM '{folder}/*.csv'
SELECT * FROM "/proc/self/environ"
SELECT (SELECT content FROM read_text('{neighbor}'))
WITH x AS (SELECT * FROM read_text('{neighbor}')) SELECT * FROM x
SELECT * FROM input, LATERAL (SELECT * FROM read_text('{neighbor}'))
SELECT a FROM input WHERE EXISTS (FROM read_text('{neighbor}'))
SELECT a FROM input ORDER BY (SELECT count(*) FROM read_text('{neighbor}'))
SELECT a FROM input LIMIT (SELECT count(*) FROM read_text('{neighbor}'))
SELECT a FROM input UNION ALL SELECT size FROM read_text('{neighbor}')
SELECT list_transform([1], lambda x: (SELECT content FROM read_text('{neighbor}')))
SELECT * FROM query('SELECT * FROM read_text(''{neighbor}'')')
SELECT * FROM query_table(['{neighbor}'])
SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))
SELECT * FROM which_secret('s3://a/b', 's3')
SELECT * FROM read_csv('https://192.0.2.1/x.csv')
SELECT * FROM 'https://192.0.2.1/x.parquet'
SELECT * FROM read_parquet('s3://bucket/x.parquet')
SELECT * FROM sqlite_scan('{neighbor}', 't')
SELECT * FROM postgres_scan('host=192.0.2.1', 'public', 't')
SELECT * FROM shapefile_meta('{neighbor}')
""".strip().splitlines()
STATEMENTS = """
COPY input TO '{folder}/stolen.csv'
COPY (SELECT 1) TO '{neighbor}'
COPY input FROM '{neighbor}'
EXPORT DATABASE '{folder}/stolen'
IMPORT DATABASE '{folder}'
ATTACH '{folder}/x.db' AS x
ATTACH ':memory:' AS x
DETACH memory
USE memory
INSTALL httpfs
LOAD httpfs
FORCE INSTALL spatial
SET memory_limit = '64GB'
SET enable_external_access = true
RESET lock_configuration
SET VARIABLE x = 1
PRAGMA database_list
PRAGMA version
PRAGMA memory_limit='64GB'
CALL pragma_version()
CALL force_checkpoint()
CREATE TABLE t AS SELECT 1
CREATE MACRO m() AS TABLE SELECT * FROM read_text('{neighbor}')
CREATE SECRET s (TYPE s3)
CREATE SEQUENCE s
DROP VIEW input
DELETE FROM input
UPDATE input SET a = 1
INSERT INTO input VALUES (1, 'x')
TRUNCATE input
MERGE INTO input USING input AS s ON false WHEN NOT MATCHED THEN INSERT VALUES (1, 'x')
VACUUM
CHECKPOINT
ANALYZE
BEGIN
PREPARE p AS SELECT 1
EXECUTE p
DEALLOCATE p
EXPLAIN SELECT 1
EXPLAIN ANALYZE SELECT 1
SELECT 1; SELECT 2
SELECT 1; COPY input TO '{folder}/stolen.csv'
SELECT 1) TO '{folder}/stolen.csv' --
SELECT 1) TO '{folder}/stolen.csv'; COPY (SELECT 1
SELECT 1 /* */; /* */ DROP VIEW input
SELECT 1 /*
PIVOT input ON b USING sum(a)
WITH x AS (DELETE FROM input RETURNING *) SELECT * FROM x
WITH x AS (INSERT INTO input VALUES (3, 'z') RETURNING *) SELECT * FROM x
SHOW TABLES
SHOW ALL TABLES
DESCRIBE sqlite_master
SUMMARIZE duckdb_settings()
SELECT $1
;
""".strip().splitlines()
KNOWLEDGE = """
SELECT getenv('SECRET')
SELECT current_setting('temp_directory')
SELECT current_setting('allowed_paths')
SELECT current_query()
SELECT getvariable('x')
SELECT nextval('s')
SELECT write_log('x')
SELECT pg_get_viewdef(1)
SELECT pg_sleep(1)
SELECT sleep_ms(1)
SELECT "current_setting"('temp_directory')
SELECT main.current_setting('temp_directory')
SELECT system.main.current_setting('temp_directory')
SELECT list_transform([1], lambda x: current_setting('temp_directory'))
SELECT error(getenv('SECRET'))
SELECT COLUMNS(c -> getenv('SECRET') = c) FROM input
SELECT a FROM input LIMIT (SELECT length(getenv('SECRET')))
SELECT * FROM range((SELECT length(getenv('SECRET'))))
SELECT * FROM input PIVOT (max(getenv('SECRET')) FOR b IN ('x'))
SELECT * FROM duckdb_memory()
SELECT * FROM duckdb_external_file_cache()
SELECT * FROM duckdb_settings()
SELECT * FROM duckdb_secrets()
SELECT * FROM duckdb_views()
SELECT * FROM duckdb_logs
SELECT * FROM duckdb_logs()
SELECT * FROM duckdb_temporary_files()
SELECT * FROM duckdb_extensions()
SELECT * FROM duckdb_functions()
SELECT * FROM pragma_storage_info('input')
SELECT * FROM pragma_show('input')
SELECT * FROM information_schema.tables
SELECT * FROM pg_catalog.pg_class
SELECT * FROM sqlite_master
SELECT * FROM duckdb_columns
SELECT * FROM memory.main.input
SELECT * FROM ROWS
SELECT * FROM job_type
SELECT * FROM os
SELECT * FROM python_map_function(1)
SELECT * FROM arrow_scan(1, 2, 3)
SELECT * FROM test_all_types()
SELECT * FROM enable_logging()
SELECT * FROM checkpoint()
WITH input AS (FROM sqlite_master) SELECT * FROM input
""".strip().splitlines()
GREED = """
SELECT repeat('x', 2000000000)
SELECT repeat(repeat('x', 1000000), 1000000)
SELECT length(repeat('x', 2000000000))
SELECT lpad('x', 2000000000, 'y')
SELECT range(1000000000)
SELECT list(range) FROM range(1000000000)
SELECT string_agg(range::VARCHAR, ',') FROM range(1000000000)
SELECT list_resize([1], 2000000000)
SELECT array_agg(i) OVER () FROM range(100000000) t(i)
SELECT count(DISTINCT i::VARCHAR || 'x') FROM range(3000000000) t(i)
SELECT count(*) FROM range(1000000000000) a, range(1000000000000) b
SELECT * FROM generate_series(1, 1000000000000)
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t
WITH RECURSIVE t(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM t) SELECT max(length(x)) FROM t
SELECT i FROM range(300000000) t(i) ORDER BY hash(i)
SELECT repeat('x', 1000000) FROM range(1000000)
SELECT printf('%2000000000d', 1)
SELECT max(sha256(i::VARCHAR)) FROM range(100000000000) t(i)
""".strip().splitlines()
HARMLESS = """
SELECT regexp_matches(repeat('a', 50000) || '!', '^(a+)+$')
SELECT 1 -- COPY input TO 'x'
SELECT 'SELECT 1; DROP VIEW input' AS b
SELECT * FROM (PIVOT input ON b IN ('x', 'y') USING sum(a))
SUMMARIZE input
DESCRIBE input
SELECT version()
""".strip().splitlines()


def deep(depth: int) -> str:
    return "SELECT " + "(" * depth + "1" + ")" * depth


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module")
def here(folder: Path) -> Iterator[Service]:
    (folder / "tmp").mkdir()
    (folder / "storage" / "uploads").mkdir(parents=True)
    neighbor(folder).write_text(f"secret\n{SECRET}\n")
    with service(
        folder, "--processes", "2",
        STORAGE_URL=f"file:{folder}/storage", TMPDIR=str(folder / "tmp"), SECRET=SECRET,
        MAX_ARTIFACT_BYTES="20000000",
    ) as running:  # fmt: skip
        yield running


def neighbor(folder: Path) -> Path:
    return folder / "storage" / "uploads" / "another.csv"


def query(folder: Path, sql: str, timeout_seconds: float = 20.0) -> JobDraft:
    for name, path in (("{neighbor}", neighbor(folder)), ("{folder}", folder / "storage")):
        sql = sql.replace(name, str(path))
    return replace(draft("data.query", rows=ROWS, sql=sql), timeout_seconds=timeout_seconds)


def run_all(
    here: Service, folder: Path, attacks: list[str], timeout: float = 20.0
) -> list[JobView]:
    jobs = here.run(*(query(folder, sql, timeout) for sql in attacks), seconds=120)
    assert_unharmed(here, folder, jobs)
    return jobs


def assert_unharmed(here: Service, folder: Path, jobs: list[JobView]) -> None:
    """Nothing was told, nothing is left, and the next job runs."""
    (after,) = here.run(query(folder, "SELECT sum(a) AS a FROM input"))
    assert after.result["rows"] == [{"a": 3}]
    for job in jobs:
        assert SECRET not in json.dumps([job.result, job.error and job.error.message])
    files = [path for path in (folder / "storage").rglob("*") if path.is_file()]
    assert [path.name for path in files if SECRET in path.read_text("latin-1")] == ["another.csv"]
    assert neighbor(folder).read_text() == f"secret\n{SECRET}\n"
    assert not list((folder / "storage").rglob("*stolen*"))
    assert not [path for path in (folder / "tmp").glob("*/*") if path.is_dir()]


def outcomes(attacks: list[str], jobs: list[JobView]) -> dict[str, tuple[str, str | None]]:
    return {
        sql[:80]: (job.status, job.error.code if job.error is not None else None)
        for sql, job in zip(attacks, jobs, strict=True)
    }


@pytest.mark.parametrize(
    "attacks", [FILES, STATEMENTS, KNOWLEDGE], ids=["files", "statements", "knowledge"]
)
def test_what_is_not_one_select_over_input_is_refused(
    here: Service, folder: Path, attacks: list[str]
) -> None:
    jobs = run_all(here, folder, attacks)

    refused = {("failed", "sql_forbidden"), ("failed", "sql_error")}
    assert {k: v for k, v in outcomes(attacks, jobs).items() if v not in refused} == {}
    assert {job.attempt for job in jobs} == {1}


def test_greed_costs_one_run(here: Service, folder: Path) -> None:
    attacks = [*GREED, deep(10_000), deep(45_000)]
    # Should the machine be too busy to end one in time, its worker does: worth a retry elsewhere.
    drafts = [replace(query(folder, sql, 2.0), max_attempts=1) for sql in attacks]

    jobs = here.run(*drafts, seconds=120)

    assert_unharmed(here, folder, jobs)
    codes = {"memory", "timeout", "result_too_large", "temp_disk", "sql_error"}
    bounds = {("failed", code) for code in codes}
    assert {k: v for k, v in outcomes(attacks, jobs).items() if v not in bounds} == {}
    for job in jobs:
        assert job.error is not None
        assert job.error.code == "timeout" or not job.error.retryable


def test_what_only_looks_hostile_is_answered(here: Service, folder: Path) -> None:
    jobs = run_all(here, folder, HARMLESS)

    assert {job.status for job in jobs} == {"finished"}
