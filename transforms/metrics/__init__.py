"""Metrics: their declaration, the columns of their tables, and the arithmetic of their measures.

spec.py reads the declaration; measures.py, distinct.py and quantile.py compute.
"""
