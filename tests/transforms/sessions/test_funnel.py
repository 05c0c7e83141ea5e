"""A funnel as a configuration states it, and what is refused."""

from datetime import timedelta

import pytest

from pipelines.settings.config import read_config
from transforms.errors import ConfigError


@pytest.fixture
def stated(tmp_path):
    """The funnel of a configuration with this text."""

    def read(text: str):
        (tmp_path / "own.yaml").write_text(text)
        return read_config(str(tmp_path / "own.yaml")).funnel

    return read


def test_without_one_the_shipped_one_is_asked(stated):
    shipped = read_config(None).funnel
    assert (shipped.steps, shipped.width) == (("page_view", "add_to_cart", "purchase"), timedelta(days=1))
    assert stated("metrics: {activity_1m: null}") == stated("funnel: null") == shipped


def test_one_of_ones_own(stated):
    own = stated("funnel: {steps: [search, signup], window: 90m}")
    assert (own.steps, own.width) == (("search", "signup"), timedelta(minutes=90))
    assert stated("funnel: {steps: [search, signup]}").width == timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "funnel: {steps: [a]}": "$.funnel.steps: ",
        "funnel: {steps: [a, b, c, d, e, f, g, h, i, j, k]}": "$.funnel.steps: ",
        "funnel: {steps: [a, b, a]}": "$.funnel.steps: got 'a' twice, allowed each event type once",
        'funnel: {steps: [a, "b\'"]}': "$.funnel.steps[1]: ",
        "funnel: {steps: [a, b], window: 1w}": "$.funnel.window: got '1w'",
        "funnel: {steps: [a, b], window: 0d}": "$.funnel.window: got '0d'",
        "funnel: {window: 1d}": "$.funnel.steps: missing, but required",
        "funnel: {steps: [a, b], widow: 1d}": "$.funnel.widow: got the unknown key 'widow', allowed steps, window",
    }.items(),
)
def test_what_is_none_is_refused_with_its_path(text, said, stated, tmp_path):
    with pytest.raises(ConfigError) as refused:
        stated(text)
    assert str(refused.value).removeprefix(f"{tmp_path}/own.yaml: ").startswith(said), refused.value
