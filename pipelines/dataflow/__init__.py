"""Jobs on Google Dataflow: launch, update, backfill, refresh and the flex template.

This package's own `__init__` imports nothing: the template module runs with the standard library alone.
May import batch, insight, assemble, audience, sources, warehouse, settings, system, transforms.
"""
