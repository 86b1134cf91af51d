"""Which gossamer this is."""

from __future__ import annotations


def own_version() -> str:
    """The version that is installed, or ``source`` where it runs from a checkout that is not."""
    from importlib.metadata import PackageNotFoundError, version  # 20 ms that help need not pay

    try:
        return version("gossamer")
    except PackageNotFoundError:
        return "source"
