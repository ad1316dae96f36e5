"""Replay vector files and model fixtures against the public API: ``python -m tests.conformance FILE.json …``.

This folder holds JSON adapters only; every rule that a vector checks is the shipped component's.
"""
