"""`audience doctor`: what is installed, what a warehouse holds, who can read it, and what a launch needs.

Each module returns lists of `Check`; machine.py gathers them.
"""
