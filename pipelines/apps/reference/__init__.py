"""Reference pages, schemas and tables, generated from declarations: `python -m pipelines.apps.reference`."""
