"""Hostile bytes, by a fuzzer that watches which lines they reach: ``python -m tests.fuzz``, or ``make fuzz``.

``targets`` says, of each door bytes come in by, what must hold whatever they are; ``mutants`` bends honest bytes where
it hurts. Without atheris the same targets are run by Hypothesis, in ``test_targets``.
"""
