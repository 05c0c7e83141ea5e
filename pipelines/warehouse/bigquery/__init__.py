"""The warehouse in BigQuery. Never imports the local warehouse.

dataset.py opens the dataset and asks it, warehouse.py is the warehouse, run.py commits a batch.
"""
