"""What every handle is: a place in a document. It holds no state, so it is cheap and never stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from crdt.causal import Path, Store

if TYPE_CHECKING:
    from crdt.document import Document


class Handle:
    """An object at a path. Asking for one writes nothing; the object is there once something live is under it."""

    __slots__ = ("_doc", "_path", "_wire")
    _store: ClassVar[type[Store]]

    def __init__(self, doc: Document, path: tuple[str, ...]) -> None:
        self._doc = doc
        self._path = path
        self._wire: Path = path[0] if len(path) == 1 else path

    @property
    def path(self) -> tuple[str, ...]:
        """Keys from the document down to it."""
        return self._path

    @property
    def value(self) -> Any:
        """What it shows, as fresh plain Python."""
        raise NotImplementedError

    def conflicts(self) -> list[Any]:
        """Values in conflict with the one shown."""
        store = self._doc.find(self._path, self._store)
        return [] if store is None else store.others(self._doc.actors)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'/'.join(self._path)!r}, value={self.value!r})"
