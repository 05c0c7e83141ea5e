"""Forecasts of many series at once: smoothing with two seasons, chosen and judged by a rolling back-test.

model.py is the way in; plans.py says what is tried for hours and days.
"""
