"""Stories about the real node, one a file, each with a moral: ``gossamer sim list`` shows them."""

__all__: list[str] = []
