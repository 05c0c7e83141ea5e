"""Runners of this machine: in process, worker processes and Prism; which one a run gets, and Beam's options.

May import settings, system, transforms.
"""
