"""The mappings that --mapping names, one by one or by a pattern."""

import pytest

from pipelines.settings.mappings import matching, read_mappings
from pipelines.settings.resolve import resolve
from transforms.errors import ConfigError, OptionError

MAPPING = "source: {}\nfields:\n  event_type: {{const: click}}\n"
SUBSCRIPTION = "projects/p-roject/subscriptions/sub"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b-shop", "a-site", "c-app"):
        (tmp_path / f"{name}.yaml").write_text(MAPPING.format(name))
    (tmp_path / "notes.txt").write_text("no mapping")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sources(command="replay", **given) -> list[str]:
    return [mapping.source for mapping in read_mappings(resolve(given, command))]


def test_they_are_in_the_order_in_which_they_are_named_and_those_of_a_pattern_by_their_paths(folder):
    assert sources(mapping=("*.yaml",)) == ["a-site", "b-shop", "c-app"]
    assert sources(mapping=("c-app.yaml", "[ab]-*.yaml")) == ["c-app", "a-site", "b-shop"]
    assert sources(mapping=(str(folder / "?-app.yaml"),)) == ["c-app"]
    assert sources() == []


def test_a_file_that_is_named_like_a_pattern_is_that_file(folder):
    (folder / "[ab].yaml").write_text(MAPPING.format("brackets"))
    (folder / "a.yaml").write_text(MAPPING.format("a"))
    assert sources(mapping=("[ab].yaml",)) == ["brackets"]


@pytest.mark.parametrize("pattern", ["none/*.yaml", "*.yml"])
def test_a_pattern_that_no_file_matches_is_one_line(pattern, folder):
    with pytest.raises(ConfigError) as raised:
        matching(pattern)
    assert str(raised.value) == f"{pattern}: no file matches; check --mapping, and quote the pattern in a shell"


def test_two_of_one_source_are_refused(folder):
    (folder / "d.yaml").write_text(MAPPING.format("a-site"))
    with pytest.raises(OptionError) as raised:
        sources(mapping=("*.yaml",))
    allowed = "allowed: one mapping for each source"
    assert str(raised.value) == f"--mapping: got d.yaml and a-site.yaml with the source 'a-site'; {allowed}"
    with pytest.raises(OptionError, match=allowed):
        sources(mapping=("d.yaml", "./d.yaml"))


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        ("backfill", {"input": ("a.jsonl",)}, "run one backfill for each source"),
        ("run", {"input_kinesis": "clicks"}, "run one job for each source"),
        ("run", {"input_subscription": SUBSCRIPTION}, "or name them with --source_attribute"),
        ("run", {"input_topic": "projects/p-roject/topics/top"}, "or name them with --source_attribute"),
        ("run", {"input_kafka": "t", "kafka_servers": "h:1"}, "or name them with --source_attribute"),
    ],
    ids=["files", "kinesis", "subscription", "topic", "kafka"],
)
@pytest.mark.parametrize("named", [("a-site.yaml", "b-shop.yaml"), ("[ab]-*.yaml",)], ids=["files", "pattern"])
def test_several_are_refused_where_nothing_says_which_records_each_reads(command, given, said, named, folder):
    with pytest.raises(OptionError, match=f"^--mapping: got 2; allowed: one; .*{said}$"):
        sources(command, mapping=named, **given)
    assert sources(command, mapping=("[a]-*.yaml",), **given) == ["a-site"]


def test_messages_that_name_their_source_and_entries_of_a_log_choose_among_several(folder):
    for given in ({"input_subscription": SUBSCRIPTION, "source_attribute": "source"}, {"input_log": "log"}):
        assert sources("run", mapping=("[ab]-*.yaml",), **given) == ["a-site", "b-shop"]
