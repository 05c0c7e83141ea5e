"""The folder or bucket of the models.

    TARGET/VERSION/model.json          the card
    TARGET/VERSION/card.md             the same, to read
    TARGET/VERSION/parameters.json     the model file, or model.onnx, model.ubj
    TARGET/current.json                the version that was trained last; written after all others

The version is a hash of the model file: what is read under it is what was written, or is refused.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipelines.insight.predict.card import Card, markdown
from pipelines.insight.predict.forms import load
from pipelines.settings.config import Configuration
from pipelines.settings.resolve import Place
from pipelines.system.disk import write_atomically
from transforms.errors import OptionError, first_line
from transforms.insight.predict.features import TARGETS
from transforms.insight.predict.scored import Probabilities
from transforms.insight.predict.settings import Predicted

FOLDER, CARD, READABLE, CURRENT = "models", "model.json", "card.md", "current.json"


class Current(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version of a target that was trained last."""

    version: str


@dataclass(frozen=True)
class Model:
    """A model that is loaded; no tuple, as Beam refers to it weakly."""

    card: Card
    probabilities: Probabilities


def folder_of(place: Place, configuration: Configuration, model_dir: str | None = None) -> str | None:
    """Where the models of a warehouse are; None: a dataset's are nowhere, as no folder is named."""
    stated = model_dir or configuration.insight.predictions.model_dir
    if stated is None and place.warehouse is not None:
        return str(Path(place.warehouse) / FOLDER)
    return stated


def pinned(place: Place, configuration: Configuration) -> Configuration:
    """The configuration with the folder and the version of each model that is there: what a refresh scores with.

    So one version scores all of a refresh, and the next one knows whether another one is to. Errors: OptionError for a
    version that does not exist, or a folder that cannot be read.
    """
    stated = configuration.insight.predictions
    folder = folder_of(place, configuration)
    versions: dict[Predicted, str] = {}
    for target in TARGETS if folder is not None else ():
        name: Predicted = target.name  # type: ignore[assignment]
        version = stated.versions.get(name)
        if version is None:
            version = _current(str(folder), name)
        if version is not None:
            versions[name] = version
            card_of(str(folder), name, version)
    predictions = msgspec.structs.replace(stated, model_dir=folder, versions=versions)
    return configuration._replace(insight=msgspec.structs.replace(configuration.insight, predictions=predictions))


def _current(folder: str, target: str) -> str | None:
    content = _read(f"{folder}/{target}/{CURRENT}", is_needed=False)
    return None if content is None else _decoded(content, Current, f"{folder}/{target}/{CURRENT}").version


def version_of(target: str, form: str, content: bytes) -> str:
    """The version of a model file."""
    return hashlib.blake2b(f"{target} {form}\n".encode() + content, digest_size=8).hexdigest()


def read_file(path: str) -> bytes:
    """The content of a file, local or in a bucket. Errors: OptionError."""
    return _read(path) or b""


def card_of(folder: str, target: str, version: str) -> Card:
    """The card of a version. Errors: OptionError if it does not exist or is no card."""
    path = f"{folder}/{target}/{version}/{CARD}"
    card = _decoded(read_file(path), Card, path)
    if (card.target, card.version) != (target, version):
        raise OptionError(f"{path}: got the card of {card.target} {card.version}; run: audience train")
    return card


def read_model(path: str) -> Model:
    """The model whose card is at `path`. Errors: OptionError if its file is not the one that the card is of."""
    folder, version = path.rsplit("/", 2)[:2]
    base, _, target = folder.rpartition("/")
    card = card_of(base, target, version)
    file = f"{folder}/{version}/{card.file}"
    content = read_file(file)
    if version_of(card.target, card.form, content) != version:
        raise OptionError(f"{file}: its hash is not the version {version}: it was changed; run: audience train")
    return Model(card, load(card.form, content, file))


def write_model(folder: str, card: Card, content: bytes) -> str:
    """Write a model file and its card, and make it the current version; returns the folder of the version."""
    at = f"{folder}/{card.target}/{card.version}"
    pretty = msgspec.json.format(msgspec.json.encode(card), indent=1)
    # The card last: whoever watches for cards finds the file of each. And what is current is there.
    for name, text in ((card.file, content), (READABLE, markdown(card).encode()), (CARD, pretty + b"\n")):
        _write(f"{at}/{name}", text)
    _write(f"{folder}/{card.target}/{CURRENT}", msgspec.json.encode(Current(card.version)) + b"\n")
    return at


def _decoded(content: bytes, kind: type, path: str):
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as problem:
        raise OptionError(f"{path}: {first_line(problem)}; run: audience train") from None


def _read(path: str, is_needed: bool = True) -> bytes | None:
    try:
        if "://" not in path:
            return Path(path).read_bytes()
        from apache_beam.io.filesystems import FileSystems

        if not is_needed and not FileSystems.exists(path):
            return None
        with FileSystems.open(path, mime_type="application/octet-stream") as file:
            return file.read()
    except FileNotFoundError:
        if not is_needed:
            return None
        raise OptionError(f"{path}: does not exist; name the folder of the models, or run: audience train") from None
    except Exception as problem:  # a bucket's client has errors of its own
        raise OptionError(f"{path}: cannot be read: {first_line(problem)}") from None


def _write(path: str, content: bytes) -> None:
    try:
        if "://" not in path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return write_atomically(Path(path), content)
        from apache_beam.io.filesystems import FileSystems

        with FileSystems.create(path, mime_type="application/octet-stream") as file:
            file.write(content)
    except Exception as problem:
        raise OptionError(f"{path}: cannot be written: {first_line(problem)}; check --model_dir") from None
