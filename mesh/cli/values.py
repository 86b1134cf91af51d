"""VALUE on the command line, and values as text: JSON both ways, and what is safe to show on a terminal."""

from __future__ import annotations

import base64
import binascii
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

DEPTH_MAX = 64  # of what is read or shown here; replicated values are bounded tighter, by the protocol


class ValueUnreadable(ValueError):
    """VALUE looks like a tagged value and is none. Nothing was sent."""


def parse(text: str) -> Any:
    """The value ``text`` stands for: JSON, or the text itself where it is none.

    ``{"$bytes": BASE64}`` is bytes. NaN and Infinity are no JSON, hence plain strings. Raises ``ValueUnreadable``
    for a ``$bytes`` whose base64 is broken, and for JSON nested too deeply to be meant.
    """
    try:
        return json.loads(text, object_hook=_tagged, parse_constant=_no_constant)
    except json.JSONDecodeError:
        return text
    except _NotJson:
        return text
    except RecursionError:
        raise ValueUnreadable("the value is nested too deeply") from None


class _NotJson(Exception):
    """Python's json accepts more than JSON."""


def _no_constant(name: str) -> Any:
    raise _NotJson(name)


def _tagged(fields: dict[str, Any]) -> Any:
    if set(fields) != {"$bytes"}:
        return fields
    try:
        return base64.b64decode(fields["$bytes"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueUnreadable('{"$bytes": …} needs base64 text') from None


def plain(value: Any, depth: int = 0) -> Any:
    """``value`` made of what JSON knows: bytes as ``{"$bytes": base64}``, infinity as ``{"$float": "inf"}``."""
    if depth > DEPTH_MAX:
        return "…"
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return [plain(each, depth + 1) for each in value]


def to_json(value: Any, *, indent: int | None = None) -> str:
    """One JSON text of ASCII only, so that no character a peer chose reaches a terminal as it is."""
    return json.dumps(plain(value), ensure_ascii=True, indent=indent, allow_nan=False).replace("\x7f", "\\u007f")


def escape(text: str) -> str:
    """``text`` as one line that cannot move a cursor, change a colour, or reorder what stands beside it.

    Control, format (bidirectional overrides among them), surrogate, private and line-breaking characters become
    escapes as Python writes them; all other characters stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(each) for each in text)


def _shown(character: str) -> str:
    if character == " " or not unicodedata.category(character).startswith(("C", "Z")):
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def show(value: Any) -> str:
    """``value`` for people: text bare and escaped, everything else as JSON."""
    return escape(value) if isinstance(value, str) else to_json(value)
