"""What is deployed or read as data: the default configuration, mappings, SQL views and sample events.

Read it through `importlib.resources.files("templates")`: a path in a checkout, in an editable install and
in a wheel alike.
"""
