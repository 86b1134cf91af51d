"""Values as JSON text and back, nothing lost: what JSON cannot say is an object with one key that begins with ``$``."""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

from crdt.errors import InvalidValue
from crdt.value import DEPTH_MAX, Value

MARKS = ("$bytes", "$float", "$dict")


def to_json(value: Value) -> str:
    """``value`` as JSON: bytes as ``{"$bytes": base64}``, infinity as ``{"$float": "inf"}``, and a dict that looks like
    one of these as ``{"$dict": …}``."""
    return json.dumps(_marked(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_json(text: str) -> Value:
    """Back from ``to_json``. Raises ``InvalidValue``."""
    try:
        return _unmarked(json.loads(text, parse_constant=_refuse), 0)
    except (json.JSONDecodeError, RecursionError) as wrong:
        raise InvalidValue(f"text that is no JSON: {wrong}") from None


def _marked(value: Value) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and math.isinf(value):
        return {"$float": str(value)}
    if isinstance(value, list):
        return [_marked(each) for each in value]
    if isinstance(value, dict):
        marked = {key: _marked(each) for key, each in value.items()}
        return {"$dict": marked} if len(marked) == 1 and next(iter(marked)) in MARKS else marked
    return value


def _unmarked(value: Any, depth: int) -> Value:
    if depth > 2 * DEPTH_MAX + 2:  # maps, and a value in the deepest
        raise InvalidValue("JSON that is nested too deep")
    if isinstance(value, list):
        return [_below(at, each, depth) for at, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key == "$dict" and isinstance(inner, dict):
            return {name: _below(name, each, depth) for name, each in inner.items()}
        if key == "$float" and inner in ("inf", "-inf"):
            return float(inner)
        if key == "$bytes" and isinstance(inner, str):
            try:
                return base64.b64decode(inner, validate=True)
            except (binascii.Error, ValueError):
                raise InvalidValue("bytes that are no base64") from None
        if key in MARKS:
            raise InvalidValue(f"{key} of something it cannot mean")
    return {name: _below(name, each, depth) for name, each in value.items()}


def _below(at: str | int, value: Any, depth: int) -> Value:
    try:
        return _unmarked(value, depth + 1)
    except InvalidValue as wrong:
        wrong.below(at)
        raise


def _refuse(name: str) -> Any:
    raise InvalidValue(f"{name} is no JSON")
