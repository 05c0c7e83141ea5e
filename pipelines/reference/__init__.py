"""Reference pages, schemas and tables, generated from declarations: `python -m pipelines.reference`.

docs/configuration.md, docs/cli.md, docs/metrics, templates/schemas, the metadata of the flex template, the tables for
Terraform. Above the commands, whose parsers it reads; nothing imports it.
"""
