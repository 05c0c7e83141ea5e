"""Forecasts, anomalies and sentiment beside the tables that others published."""
