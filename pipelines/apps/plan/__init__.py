"""`audience plan`: what a stream or a backfill of a given size takes: workers, memory, bytes, cost.

estimate.py is the entry point; steps.py and sessions.py model what flows, coefficients.py holds what was measured.
"""
