"""What of SQL is let through: one SELECT over `input`, by DuckDB's own parse of it.

That it is "of type SELECT" says little: since DuckDB 2.0 a WITH may hold DELETE or INSERT. So
its tree is walked, and what is not known to be harmless is refused. The locked connection
(engine.py) stands behind this.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from jobs.data.faults import tidy
from jobs.errors import PermanentError

TABLE = "input"
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLES = {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT",
           "SHOW_REF", "COLUMN_DATA"}  # fmt: skip
# Where a table stands in the tree.
_TABLE_PLACES = {"from_table", "left", "right", "source"}
TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each",
                   "json_tree", "generate_subscripts", "regexp_split_to_table"}  # fmt: skip
# They tell of the service, or change something; so do all that begin with `pg_`.
FUNCTIONS = {
    "current_connection_id", "current_query", "current_query_id", "current_setting",
    "current_transaction_id", "currval", "getenv", "getvariable", "json_deserialize_sql",
    "json_serialize_plan", "json_serialize_sql", "nextval", "parse_duckdb_log_message", "setval",
    "sleep_ms", "txid_current", "write_log", "get_block_size", "setseed",
}  # fmt: skip


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The one SELECT, without what follows it. Raises PermanentError for all else."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise PermanentError(tidy(str(error)), code="sql_error") from None
    if len(statements) != 1:
        raise _forbidden(f"one SELECT is run, and here are {len(statements)} statements")
    kind = statements[0].type.name
    if kind == "MULTI":
        raise _forbidden("PIVOT needs its values in an IN list, to be one statement")
    if kind != "SELECT":
        raise _forbidden(f"one SELECT is run, and this is {kind}")
    if statements[0].named_parameters:
        raise PermanentError("the SQL has parameters, and none are given", code="sql_error")
    _check_tree(_tree(connection, sql))
    return _without_end(sql)


def _without_end(sql: str) -> str:
    """Up to the semicolons and comments that it ends with, so that it can stand in brackets."""
    text = sql.encode()
    end = len(text)
    for at, kind in reversed(duckdb.tokenize(sql)):
        if kind != duckdb.token_type.comment and text[at:end].strip() != b";":
            break
        end = at
    return text[:end].decode().rstrip()


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    row = connection.execute(
        "SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true)", [sql]
    ).fetchone()
    assert row is not None
    try:
        tree = json.loads(row[0])
    except RecursionError:
        raise PermanentError("the SQL is nested too deeply", code="sql_error") from None
    if tree.get("error"):
        raise _forbidden(tidy(str(tree.get("error_message", "it cannot be checked"))))
    return tree


def _check_tree(tree: Any) -> None:
    known = {TABLE} | {name.lower() for name in _with_names(tree)}
    for place, node in _objects(tree):
        kind = node.get("type")
        if "class" in node:
            if node["class"] == "FUNCTION":
                _check_function(node)
        elif isinstance(kind, str):
            if kind.endswith("_NODE") and kind not in _NODES:
                raise _forbidden("a WITH may hold nothing but SELECT")
            if place in _TABLE_PLACES and kind not in _TABLES | _NODES:
                raise _forbidden(f"{kind} is not possible here")
            if kind == "BASE_TABLE":
                _check_table(node, known)
            elif kind == "TABLE_FUNCTION":
                _check_table_function(node)
            elif kind == "SHOW_REF" and "query" not in node:
                raise _forbidden(f"there is nothing to show but `{TABLE}`")


def _check_table(node: dict[str, Any], known: set[str]) -> None:
    path = node.get("qualified_name", {}).get("path", [node.get("table_name", "")])
    if len(path) != 1 or path[0].lower() not in known:
        raise _forbidden(f"the only table is `{TABLE}`, and this is {'.'.join(path)[:100]!r}")


def _check_table_function(node: dict[str, Any]) -> None:
    name = _function_name(node.get("function", {}))
    if name not in TABLE_FUNCTIONS:
        raise _forbidden(f"the function {name[:100]} is not possible here")


def _check_function(node: dict[str, Any]) -> None:
    name = _function_name(node)
    if name in FUNCTIONS or name.startswith(("pg_", "duckdb_", "pragma_", "inet_", "has_")):
        raise _forbidden(f"the function {name[:100]} is not possible here")


def _function_name(node: dict[str, Any]) -> str:
    path = node.get("qualified_name", {}).get("path", [])
    return str(node.get("function_name") or (path[-1] if path else "")).lower()


def _with_names(tree: Any) -> Iterator[str]:
    for place, node in _objects(tree):
        if place == "cte_map":
            for each in node.get("map", []):
                yield str(each["key"])
        if str(node.get("type")) in {"RECURSIVE_CTE_NODE", "CTE_NODE"}:
            yield str(node.get("cte_name", TABLE))


def _objects(tree: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in it, and under which key it stands; without recursion, as trees are deep."""
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        place, node = waiting.pop()
        if isinstance(node, dict):
            yield place, node
            waiting += node.items()
        elif isinstance(node, list):
            waiting += [(place, each) for each in node]


def _forbidden(message: str) -> PermanentError:
    return PermanentError(message, code="sql_forbidden")
