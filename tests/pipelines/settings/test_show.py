"""`audience config --show`: what is effective, where from, and that its output is a file that says the same."""

import pytest

from pipelines.cli import main
from pipelines.settings.config import read_config, read_stated
from pipelines.settings.resolve import effective, resolve
from pipelines.settings.values import FILE_OPTIONS

FILES = {
    "nothing": "",
    "options": "warehouse: 'the team: #1'\ntime_zone: Europe/London\nmax_lateness: 36h\nworkers: 2\n",
    "metrics": "metrics:\n  activity_1m: null\n  user_days: {bucket: 1d, measures: {n: {count: all}}}\n"
    "  basket_1h:\n    bucket: 1h\n    dimensions: [currency]\n    early: never\n    measures:\n"
    "      basket: {quantile: value, q: [0.5, 0.99], where: {event_type: [purchase, 'no']}}\n"
    "      bots: {count: all, where: {is_bot: true, country: 'NO'}}\n",
    "quality": 'quality: {null_ids: ["", "no", "null", "a: b", "é"]}\n',
    "funnel": "funnel: {steps: [search, signup]}\n",
    "attribution": "attribution: {look_back_days: 7}\n",
    "insight": "insight: {trends: {rising: 5, min_count: 20}, anomalies: {silence: 50}, "
    "profiles: {half_life: 7, attributes: {seen: {of: last, column: device, days: 90}}}, "
    "recommendations: {again: true, hidden_categories: [films, 'no']}}\n",
    "no metric": "metrics: {activity_1m: null, content_1h: null, campaign_1h: null, user_days: null}\n",
}


def shown(capsys, *argv: str) -> str:
    assert main(["config", "--show", *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize("name", FILES)
def test_what_is_shown_is_a_file_that_says_the_same(name, tmp_path, capsys):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(FILES[name])
    second.write_text(shown(capsys, "--config", str(first)))
    assert read_config(str(second)) == read_config(str(first))
    assert read_stated(str(second)).metrics == read_stated(str(first)).metrics
    assert read_config(str(second)).funnel == read_config(str(first)).funnel
    assert read_config(str(second)).insight == read_config(str(first)).insight
    own = resolve({"input": ["a"], "config": str(first)})
    assert resolve({"input": ["a"], "config": str(second)})._replace(config=None) == own._replace(config=None)
    again = shown(capsys, "--config", str(second))
    assert without_comments(again) == without_comments(second.read_text())


def without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def test_an_option_that_is_typed_is_shown_as_such_and_kept(tmp_path, capsys):
    text = shown(capsys, "--shards", "8", "--time_zone", "Europe/London")
    assert "# unit: shards, 0 to 9999; default: 0; from: option\nshards: 8\n" in text
    (tmp_path / "own.yaml").write_text(text)
    settings = resolve({"input": ["a"], "config": str(tmp_path / "own.yaml")})
    assert (settings.shards, settings.time_zone) == (8, "Europe/London")


def test_each_key_is_told_with_its_unit_its_default_and_where_it_is_from(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text("workers: 2\nmetrics: {user_days: null}\n")
    lines = shown(capsys, "--config", str(tmp_path / "own.yaml")).splitlines()
    for option in FILE_OPTIONS:
        [at] = [n for n, line in enumerate(lines) if line.startswith(f"{option.name}:")]
        assert lines[at - 2] == f"# {option.help}"
        default = option.unless or option.default
        origin = f"file '{tmp_path}/own.yaml'" if option.name == "workers" else "default"
        assert lines[at - 1] == f"# unit: {option.unit}; default: {default}; from: {origin}"
        assert option.unit and default
    at = lines.index("  user_days: null")
    assert lines[at - 1] == f"  # from: file '{tmp_path}/own.yaml'"
    assert lines[lines.index("  content_1h:") - 1] == "  # from: default"
    [at] = [n for n, line in enumerate(lines) if line.startswith("  null_ids: ")]
    assert "unit: strings in lower case; default: [" in lines[at - 1]
    assert lines[at - 1].endswith("; from: default")
    at = lines.index("  steps: [page_view, add_to_cart, purchase]")
    assert lines[at - 1].endswith("; default: [page_view, add_to_cart, purchase]; from: default")


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "shards: x": "$.shards: got 'x', allowed a whole number",
        "metrics: {a_1h: {bucket: 7m, measures: {n: {count: all}}}}": "$.metrics.a_1h: bucket: got '7m'",
        "quality: {nul_ids: []}": "$.quality.nul_ids: got the unknown key 'nul_ids', allowed null_ids",
    }.items(),
)
def test_a_wrong_file_is_one_line_and_nothing_is_shown(text, said, tmp_path, capsys):
    (tmp_path / "own.yaml").write_text(text)
    assert main(["config", "--show", "--config", str(tmp_path / "own.yaml")]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith(f"error: {tmp_path}/own.yaml: {said}")


def test_show_or_schema_is_to_be_said(capsys):
    assert main(["config"]) == 2
    assert capsys.readouterr().err == (
        "error: one of the arguments --show --schema is required; see audience config --help\n"
    )


def test_nothing_is_in_force_that_is_no_option():
    assert set(effective({})) >= {option.name for option in FILE_OPTIONS}
