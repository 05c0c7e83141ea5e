"""Batch runs: backfill, recompute, replay and erasure; each reads, stages and commits once.

May import assemble, audience, sources, warehouse, runners, settings, system, transforms.
"""
