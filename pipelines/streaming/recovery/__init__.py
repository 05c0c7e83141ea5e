"""Recovery: what a stream keeps, and how its state is restored at a restart, from a folder or from BigQuery."""
