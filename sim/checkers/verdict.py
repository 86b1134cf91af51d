"""What a checker raises when a law does not hold."""

from __future__ import annotations


class Violated(AssertionError):
    """A law does not hold. The message names who broke it, and what would have been right."""
