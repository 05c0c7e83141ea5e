"""Strict YAML: parse a document into msgspec Structs; each error is one line with its path.

Keys are read literally, so `true:`, `1:` and `no:` are the strings true, 1 and no. A duplicate key is an error. Only
true and false are booleans, and a date is a string (YAML 1.2).

A document is limited in length, in depth, and in the number of its values, where an alias counts for all values that it
repeats. A few lines of nested aliases are therefore refused before they become billions of values.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import inspect

from transforms.errors import ConfigError

T = TypeVar("T")

_AT = re.compile(r"^(?P<text>.*?)(?: - at (?:`key` in )?`(?P<path>\$[^`]*)`)?$", re.DOTALL)
_INNER = re.compile(r"^(?P<path>[.\[][^:\s]*): (?P<text>.*)$", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+|\.\.\.)\]|\['([^']*)'\]")
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORDS = {"str": "a text", "int": "an integer", "float": "a number", "bool": "true or false"}
_WORDS |= {"object": "keys with values", "array": "a list", "null": "null"}


MOST_CHARACTERS = 2_000_000  # of a document
MOST_VALUES = 100_000  # of a document, its aliases written out
_LIMIT = re.compile(r" [<>]=? [-\d.]+$")
MOST_BITS = 4_096  # of an integer: Python refuses to write one of many more
DEEPEST = 100  # levels


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of a boolean, no dates, keys as texts, so many values at most."""

    def __init__(self, text):
        super().__init__(text)
        self._open = 0  # nodes that are not yet composed to their end
        self._sizes: dict[int, tuple[int, int]] = {}  # (values, levels) of a composed node, by its identity

    def compose_node(self, parent, index):
        self._open += 1
        is_alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        if self._open > DEEPEST:
            raise _at(mark, f"nested deeper than {DEEPEST} levels")
        node = super().compose_node(parent, index)
        self._open -= 1
        if not is_alias:
            inner = [self._sizes.get(id(each), (1, 0)) for each in _inner(node)]
            deepest = max((levels for _, levels in inner), default=0)
            self._sizes[id(node)] = 1 + sum(values for values, _ in inner), 1 + deepest
        values, levels = self._sizes.get(id(node), (1, 1))
        if values > MOST_VALUES:
            raise _at(mark, f"more than {MOST_VALUES:,} values, with those that its aliases repeat")
        if levels > DEEPEST:
            raise _at(mark, f"nested deeper than {DEEPEST} levels, by its aliases")
        return node

    def construct_yaml_int(self, node):
        value = super().construct_yaml_int(node)
        if value.bit_length() > MOST_BITS:
            raise _at(node.start_mark, f"an integer of more than {MOST_BITS} bits")
        return value

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(keys) < len(node.value):
            raise _at(node.start_mark, "a key is a single text")
        if len(set(keys)) < len(keys):
            twice = next(key for key, times in Counter(keys).items() if times > 1)
            raise _at(node.start_mark, f"duplicate key {twice!r}")
        values = [self.construct_object(value, deep=True) for _, value in node.value]
        return dict(zip(keys, values, strict=True))


def _inner(node: yaml.Node | None) -> Iterable[yaml.Node]:
    """The keys and values of a mapping, the elements of a list."""
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _at(mark: yaml.Mark, text: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, text, mark)


_PLAIN = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in _PLAIN]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))


def load(text: str, type_: type[T], where: str) -> T:
    """The document as `type_`. Errors: ConfigError `where: $.path: got ..., allowed ...`.

    A `__post_init__` may begin its ValueError with the path from its Struct on: `.csv.quote: got ...`.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{where}: got {len(text):,} characters, allowed {MOST_CHARACTERS:,}; write less")
    try:
        document = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise ConfigError(f"{where}: not YAML: {' '.join(str(problem).split())}") from None
    try:
        return msgspec.convert(document, type_)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"{where}: {_explain(str(problem), document, type_)}") from None


def _explain(problem: str, document: Any, type_: Any) -> str:
    """`$.path: got ..., allowed ...` from the words of msgspec."""
    found = _AT.match(problem)
    assert found is not None
    path, text = _with_keys(problem, found["path"] or "$", document, type_), found["text"]
    inner = _INNER.match(text)
    if inner:
        return f"{path}{inner['path']}: {inner['text']}"
    name = text.partition("`")[2].rstrip("`")
    if text.startswith("Object contains unknown field"):
        return f"{path}.{name}: got the unknown key {name!r}, allowed {', '.join(_keys(type_, path, document))}"
    if text.startswith("Object missing required field"):
        return f"{path}.{name}: missing, but required; state it"
    if text.startswith("Invalid enum value"):
        texts, keys = _choices(type_, path)
        maps = f", or a map of one of {', '.join(keys)}" if keys else ""
        return f"{path}: got {_shown(document, path)}, allowed {', '.join(texts)}{maps}"
    if text.startswith("Invalid value"):  # of the key that tells the kinds of a Struct apart
        tags = [str(at.tag) for at in _types_at(type_, path.rpartition(".")[0]) if isinstance(at, inspect.StructType)]
        return f"{path}: got {_shown(document, path)}, allowed {', '.join(tags)}"
    if text.startswith("Expected"):
        kinds = re.findall(r"`([^`]*)`", text)
        allowed = [_WORDS.get(kind, kind) for kind in kinds[0].split(" | ")] if kinds else []
        limit = _LIMIT.search(text)
        return f"{path}: got {_shown(document, path)}, allowed {' or '.join(allowed)}{limit[0] if limit else ''}"
    return f"{path}: {text}"


def _with_keys(problem: str, path: str, document: Any, type_: Any) -> str:
    """The path with its keys: msgspec writes each that is not of a Struct as [...]."""
    while "[...]" in path:
        before, _, after = path.partition("[...]")
        try:
            entries = _at_path(document, before)
        except (LookupError, TypeError, ValueError):
            return path
        for key in entries if isinstance(entries, dict) else ():
            alone = _put(document, _STEP.findall(before), {key: entries[key]})
            if _refusal(alone, type_) == problem:
                path, document = f"{before}{f'.{key}' if _NAME.fullmatch(key) else repr([key])}{after}", alone
                break
        else:
            return path
    return path


def _refusal(document: Any, type_: Any) -> str | None:
    try:
        msgspec.convert(document, type_)
    except msgspec.ValidationError as problem:
        return str(problem)
    return None


def _put(document: Any, steps: list[tuple[str, str, str]], value: Any) -> Any:
    """A copy of the document with the value at the steps."""
    if not steps:
        return value
    (key, index, quoted), *inner = steps
    copy = document.copy()
    at = int(index) if index else key or quoted
    copy[at] = _put(copy[at], inner, value)
    return copy


def _at_path(document: Any, path: str) -> Any:
    for key, index, quoted in _STEP.findall(path):
        document = document[int(index) if index else key or quoted]
    return document


def _shown(document: Any, path: str) -> str:
    """The value at the path, as short as a message can bear."""
    try:
        text = repr(_at_path(document, path))
    except (LookupError, TypeError, ValueError):
        return "another kind of value"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _types_at(type_: Any, path: str) -> list[inspect.Type]:
    """What the type may have at the path."""
    candidates = [inspect.type_info(type_)]
    for key, _, _ in _STEP.findall(path):
        flat = [inner for at in candidates for inner in _flat(at)]
        candidates = [inner for at in flat for inner in _below(at, key)]
    return [inner for candidate in candidates for inner in _flat(candidate)]


def _choices(type_: Any, path: str) -> tuple[list[str], list[str]]:
    """The texts of the Literal, and the keys of the Struct, that the type has at the path."""
    found = _types_at(type_, path)
    keys = [field.encode_name for at in found if isinstance(at, inspect.StructType) for field in at.fields]
    return [str(value) for at in found if isinstance(at, inspect.LiteralType) for value in at.values], keys


def _keys(type_: Any, path: str, document: Any) -> list[str]:
    """The keys that the Struct at the path has, of several the one of the kind that the document states."""
    stated, found = _at_path(document, path), []
    for at in _types_at(type_, path):
        if isinstance(at, inspect.StructType) and (at.tag_field is None or stated.get(at.tag_field) == at.tag):
            found += [*([] if at.tag_field is None else [at.tag_field]), *(each.encode_name for each in at.fields)]
    return found


def _flat(at: inspect.Type) -> list[inspect.Type]:
    if isinstance(at, inspect.Metadata):
        return _flat(at.type)
    return [inner for each in at.types for inner in _flat(each)] if isinstance(at, inspect.UnionType) else [at]


def _below(at: inspect.Type, key: str) -> list[inspect.Type]:
    if key and isinstance(at, inspect.StructType):
        return [field.type for field in at.fields if field.encode_name == key]
    if not key and isinstance(at, inspect.VarTupleType | inspect.ListType):
        return [at.item_type]
    return [at.value_type] if isinstance(at, inspect.DictType) else []
