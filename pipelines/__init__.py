"""Programs: what a person launches, and what wires `transforms` to sources, warehouses and runners.

The floors are listed in tests/test_architecture.py and drawn in docs/architecture.md: each imports only those below it.
"""
