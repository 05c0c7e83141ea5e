"""Write keys: made once, stored as hashes, replaced with an overlap, and a rate for each."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.apps.collector import keys
from pipelines.apps.collector.keys import KeyFile, Rates, Secrets, Sender, add_key, add_webhook, remove_key
from pipelines.system import tokens
from transforms.errors import OptionError


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_known_and_the_file_holds_only_its_hash(path):
    key = add_key(path, "web", "shop", rate=5)
    assert KeyFile(path).sender(key) == Sender("web", "shop", 5)
    assert key not in path.read_text() and len(key) > 30
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("wrong", ["", "x", "ak_", "é\udcff"])
def test_another_key_is_unknown(path, wrong):
    key = add_key(path, "web", "shop")
    known = KeyFile(path)
    assert known.sender(wrong) is None and known.sender(key[:-1]) is None and known.sender(key + "x") is None


def test_a_new_key_of_a_name_lets_the_earlier_one_expire(path):
    first = add_key(path, "web", "shop")
    second = add_key(path, "web", "shop", overlap=timedelta(hours=1))
    assert KeyFile(path).sender(first) and KeyFile(path).sender(second)
    third = add_key(path, "web", "shop", overlap=timedelta(0))
    assert [bool(KeyFile(path).sender(key)) for key in (first, second, third)] == [False, False, True]
    add_key(path, "other", "shop")
    assert len(json.loads(path.read_text())["keys"]) == 2, "an expired key stays in the file"


def test_a_later_overlap_never_extends_an_earlier_one(path):
    add_key(path, "web", "shop")
    add_key(path, "web", "shop", overlap=timedelta(minutes=1))
    add_key(path, "web", "shop", overlap=timedelta(days=9))
    first, second, third = (each["until"] for each in json.loads(path.read_text())["keys"])
    assert datetime.fromisoformat(first) < datetime.now(UTC) + timedelta(minutes=2)
    assert datetime.fromisoformat(second) > datetime.now(UTC) + timedelta(days=8) and third is None


def test_a_change_of_the_file_is_seen_and_a_broken_one_is_reported_once(path, monkeypatch):
    monkeypatch.setattr(tokens, "CHECK_SECONDS", 0.0)
    said: list[str] = []
    key = add_key(path, "web", "shop")
    known = KeyFile(path, said.append)
    other = add_key(path, "app", "shop")
    assert known.sender(other) == Sender("app", "shop")
    path.write_text('{"keys": [{"secret-canary": 1}]}')
    assert known.sender(key) and known.sender(other)
    assert len(said) == 1 and "stay valid" in said[0] and "canary" not in said[0]
    path.unlink()
    assert known.sender(key) and len(said) == 2


def test_a_webhook_has_its_secret_and_replaces_itself(path):
    add_webhook(path, "stripe", "payments", "whsec_abcdefgh")
    add_webhook(path, "stripe", "payments", "whsec_12345678")
    known = KeyFile(path)
    assert known.webhooks()["stripe"].source == "payments"
    assert dict(Secrets(known)) == {"stripe": "whsec_12345678"} and len(Secrets(None)) == 0
    assert "whsec_12345678" not in f"{known.webhooks()}{known._file.current()}{Secrets(known)}"


def test_what_is_removed_is_refused_at_once(path):
    key = add_key(path, "web", "shop")
    add_webhook(path, "web", "payments", "whsec_abcdefgh")
    assert remove_key(path, "web") == 2
    assert KeyFile(path).sender(key) is None and not KeyFile(path).webhooks()
    with pytest.raises(OptionError, match="got 'web'; allowed: none"):
        remove_key(path, "web")


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [("Web", "shop", "--add_key: got 'Web'"), ("web", "a b", "--source: got 'a b'"), ("x\n", "shop", "--add_key")],
)
def test_a_name_that_is_not_allowed_is_refused_and_nothing_is_written(path, name, source, said):
    with pytest.raises(OptionError) as refused:
        add_key(path, name, source)
    assert str(refused.value).startswith(said) and not path.exists()


def test_the_secret_of_a_webhook_is_not_shown_when_it_is_refused(path):
    with pytest.raises(OptionError, match="got a secret of 6 characters; allowed: 8 to 512") as refused:
        add_webhook(path, "stripe", "payments", "canary")
    assert "canary" not in str(refused.value)


WRONG = {
    "not JSON": ("canary {", "not JSON"),
    "another shape": ('{"keys": 3}', "Expected `array`, got `int`"),
    "an unknown field": ('{"keys": [], "canary": 1}', "an unknown field"),
    "a time without a zone": (
        '{"keys":[{"name":"a","source":"b","sha256":"c","created":"2026-01-01T00:00:00"}]}',
        "Expected `datetime` with a timezone",
    ),
    "a rate of nothing": (
        '{"keys":[{"name":"a","source":"b","sha256":"c","created":"2026-01-01T00:00:00Z","rate":0}]}',
        "`float` > 0",
    ),
    "a wrong source": (
        '{"keys":[{"name":"a","source":"B","sha256":"c","created":"2026-01-01T00:00:00Z"}]}',
        "a source that is not allowed",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_is_none_is_one_line_that_quotes_nothing(path, wrong):
    content, said = WRONG[wrong]
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(OptionError) as refused:
        KeyFile(path)
    assert said in str(refused.value) and "canary" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_that_others_may_read_is_refused(path):
    add_key(path, "web", "shop")
    path.chmod(0o640)
    with pytest.raises(OptionError, match="has mode 0640; allowed: 0600"):
        KeyFile(path)


def test_a_file_that_does_not_exist_says_how_to_make_one(path):
    with pytest.raises(OptionError, match=r"No such file.*--add_key"):
        KeyFile(path)


def test_no_more_keys_than_are_compared_with(path, monkeypatch):
    monkeypatch.setattr(keys, "MOST_TOKENS", 2)
    add_key(path, "a", "s")
    add_key(path, "b", "s")
    before = path.read_bytes()
    with pytest.raises(OptionError, match="which is the most"):
        add_key(path, "c", "s")
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_rate_is_a_burst_and_then_so_many_a_second():
    rates, sender = Rates(), Sender("web", "shop", 10.0)
    assert rates.wait(sender, 0.0) == 0
    rates.take(sender, 100, 0.0)  # ten seconds of events
    assert rates.wait(sender, 0.0) == 0
    rates.take(sender, 50, 0.0)
    assert rates.wait(sender, 0.0) == pytest.approx(5.0) and rates.wait(sender, 4.0) == pytest.approx(1.0)
    assert rates.wait(sender, 5.0) == 0
    rates.take(sender, 110, 1_000.0)  # no more than the burst is saved
    assert rates.wait(sender, 1_000.0) == pytest.approx(1.0)


def test_the_rate_of_one_key_is_not_that_of_another():
    rates = Rates()
    rates.take(Sender("a", "s", 1.0), 1_000, 0.0)
    assert rates.wait(Sender("a", "s", 1.0), 0.0) > 0
    assert rates.wait(Sender("b", "s", 1.0), 0.0) == 0 == rates.wait(Sender("c", "s"), 0.0)
