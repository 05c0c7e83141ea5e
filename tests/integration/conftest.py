"""What several files stream, made once."""

from functools import partial

import pytest

from tests.integration.records import Records, read_records, shared, write_records


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> Records:
    """1,000 events, 60 % of them of one person and one content, and one of 9.5 MB."""
    make = partial(write_records, events=1_000, huge=9_500_000, hot_key=0.6)
    return read_records(shared(tmp_path_factory, "records", make))


@pytest.fixture(scope="session")
def few_records(tmp_path_factory) -> Records:
    """500 events, none larger than BigQuery takes."""
    return read_records(shared(tmp_path_factory, "few_records", partial(write_records, events=500)))
