"""Which labels an expression's series have, and whether its two sides can ever meet.

Prometheus compares series of equal labels only: an alert whose sides have none in common is
valid, and never fires.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import promql_parser as promql

# What each target adds to every series of its own.
TARGET = frozenset({"instance", "job"})


class MismatchError(Exception):
    """The sides of an operator can never meet."""


def labels_of(expr: promql.Expr, metrics: Mapping[str, set[str]]) -> frozenset[str] | None:
    """None: a number, which meets every series. Raises MismatchError, KeyError."""
    match expr:
        case promql.NumberLiteral():
            return None
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return labels_of(expr.expr, metrics)
        case promql.VectorSelector():
            return TARGET | metrics[str(expr.name)]
        case promql.MatrixSelector():
            return labels_of(expr.vector_selector, metrics)
        case promql.AggregateExpr():
            return _aggregated(expr, metrics)
        case promql.Call():
            return _called(expr, metrics)
        case promql.BinaryExpr():
            return _combined(expr, metrics)
    raise AssertionError(f"{type(expr)} is not known here")


def _aggregated(
    expr: promql.AggregateExpr, metrics: Mapping[str, set[str]]
) -> frozenset[str] | None:
    inside, modifier = labels_of(expr.expr, metrics), expr.modifier
    if inside is None:
        raise MismatchError(f"{expr.prettify()}: of a number")
    if modifier is None:
        return frozenset()
    names = frozenset(modifier.labels)
    if modifier.type == promql.AggModifierType.Without:
        return inside - names
    if not names <= inside:
        raise MismatchError(f"{expr.prettify()}: has no {sorted(names - inside)}")
    return names


def _called(expr: promql.Call, metrics: Mapping[str, set[str]]) -> frozenset[str] | None:
    name = expr.func.name
    arguments: list[Any] = expr.args
    if name in {"scalar", "time"}:
        return None
    if name == "absent":
        return frozenset()
    if name == "histogram_quantile":
        buckets = labels_of(arguments[1], metrics)
        if buckets is None or "le" not in buckets:
            raise MismatchError(f"{expr.prettify()}: has no buckets")
        return buckets - {"le"}
    return labels_of(arguments[0], metrics)


def _combined(expr: promql.BinaryExpr, metrics: Mapping[str, set[str]]) -> frozenset[str] | None:
    left, right = labels_of(expr.lhs, metrics), labels_of(expr.rhs, metrics)
    matching = expr.modifier.matching if expr.modifier is not None else None
    if left is None or right is None:
        if matching is not None:
            raise MismatchError(f"{expr.prettify()}: a number is matched, which has no labels")
        return left if right is None else right
    if str(expr.op) == "or":
        return left | right
    one, other = left, right
    if matching is not None:
        names = frozenset(matching.labels)
        is_on = matching.type == promql.LabelModifierType.Include
        one, other = (each & names if is_on else each - names for each in (left, right))
    if one != other:
        raise MismatchError(f"{expr.prettify()}: {sorted(one)} never meet {sorted(other)}")
    return left
