"""Streams: run one, stop it, show its state, and recover it after a restart.

May import batch, assemble, audience, sources, warehouse, runners, settings, system, transforms.
"""
