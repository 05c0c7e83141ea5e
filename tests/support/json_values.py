"""JSON as clients write it, for property tests."""

import json
from typing import Any

from hypothesis import strategies as st

texts = st.text(max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(texts, values, max_size=4)


def written(value: Any) -> bytes:
    """The JSON of a value as Python writes it: NaN is possible, which is not JSON."""
    return json.dumps(value, ensure_ascii=False).encode()
