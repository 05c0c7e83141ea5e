"""Programs beside the graph, a folder each: what is behind `audience mapping`, `plan`, `report`, `doctor`, `simulate`
and `demo`, and the generators of reference pages.

May import everything below; nothing below imports an app. Of the apps only `demo` and `reference` import others.
"""
