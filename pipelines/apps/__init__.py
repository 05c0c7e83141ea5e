"""Programs beside the graph, a folder each: what is behind `audience mapping`, `plan`, `report`, `doctor`, `simulate`
and `demo`.

May import everything below; nothing below imports an app. Of the apps only `demo` imports others.
"""
