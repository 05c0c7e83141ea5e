"""Strict YAML: what a document may cost. What it may say is decided by those who read one."""

from typing import Any

import msgspec
import pytest

from transforms import strict_yaml
from transforms.errors import ConfigError
from transforms.strict_yaml import DEEPEST, MOST_CHARACTERS, load


def aliases(levels: int) -> str:
    """Each level repeats the one below ten times."""
    ten = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *ten])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (aliases(4), "more than 5,000 values, with those that its aliases repeat"),
        (aliases(30), "more than 5,000 values, with those that its aliases repeat"),
        (f"tests:\n  - record: {{z: [{'x,' * 5_000}]}}", "more than 5,000 values"),
        ("[" * (DEEPEST + 1), f"nested deeper than {DEEPEST} levels"),
        (
            "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, DEEPEST + 1))]),
            f"nested deeper than {DEEPEST} levels, by its aliases",
        ),
        ("a: &a [*a]", "found unconstructable recursive node"),
        (f"a: 0x{'f' * 10_000}", "an integer of more than 4096 bits"),
        (f"a: {'9' * 10_000}", "Exceeds the limit (4300 digits)"),
        ("{a: 1, b: 2, a: 3}", "duplicate key 'a'"),
    ],
)
def test_a_document_that_would_take_the_machine_is_refused_in_one_line(text, problem, monkeypatch):
    monkeypatch.setattr(strict_yaml, "MOST_VALUES", 5_000)  # more of them take seconds to read
    with pytest.raises(ConfigError) as refused:
        load(text, Any, "m.yaml")  # type: ignore[arg-type]
    assert str(refused.value).startswith("m.yaml: not YAML: ")
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_long_document_is_refused_before_it_is_read():
    with pytest.raises(ConfigError, match=r"^m.yaml: got 2,000,001 characters, allowed 2,000,000; write less$"):
        load("x" * (MOST_CHARACTERS + 1), Any, "m.yaml")  # type: ignore[arg-type]


def test_aliases_of_honest_size_stand_for_what_they_repeat():
    assert load("a: &a {x: 1}\nb: [*a, *a]", dict[str, Any], "m.yaml") == {"a": {"x": 1}, "b": [{"x": 1}] * 2}
    assert load(aliases(3), dict[str, Any], "m.yaml")["a2"][9][9] == ["x"] * 10


class Cat(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind", tag="cat"):
    lives: int = 9


class Dog(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind", tag="dog"):
    tricks: int = 0


class Home(msgspec.Struct, forbid_unknown_fields=True):
    pets: list[Cat | Dog] = []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pets: [{kind: cow}]", "$.pets[0].kind: got 'cow', allowed cat, dog"),
        (
            "pets: [{kind: dog}, {kind: dog, lives: 3}]",
            "$.pets[1].lives: got the unknown key 'lives', allowed kind, tricks",
        ),
        ("cats: []", "$.cats: got the unknown key 'cats', allowed pets"),
        ("pets: [{}]", "$.pets[0].kind: missing, but required; state it"),
    ],
)
def test_what_has_kinds_says_which_and_the_keys_of_the_stated_one(text, problem):
    with pytest.raises(ConfigError) as told:
        load(text, Home, "a.yaml")
    assert str(told.value) == f"a.yaml: {problem}"
