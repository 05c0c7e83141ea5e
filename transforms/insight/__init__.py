"""What is changing: arithmetic over many series at once, without Beam.

series.py makes matrices of a warehouse's counts; forecast/ computes what to expect.
"""
