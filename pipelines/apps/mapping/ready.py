"""Shipped mappings for files that are recognized by how their lines begin: access logs."""

import re
from pathlib import Path

from pipelines.settings.config import TEMPLATES
from transforms.mapping import load_mapping
from transforms.records.csv_format import CsvFormat

COMPARED = 100  # lines
_MOST = 0.9  # share of the lines that fit
# Each matches the beginning of a line, and reads a bounded part of it.
_LINES = {
    "access-log": re.compile(rb'\S{1,256} - .{1,256}? \[\d\d/[A-Z][a-z]{2}/\d{4}(?::\d\d){3} [+-]\d{4}\] "'),
    "cloudfront": re.compile(rb"\d{4}-\d\d-\d\d\t\d\d:\d\d:\d\d\t[A-Z]{3}\d{1,4}(?:-[A-Z0-9]{1,4})?\t"),
    "aws-alb": re.compile(rb"(?:https?|h2|grpcs|wss?) \d{4}-\d\d-\d\dT[0-9:.]{8,20}Z app/"),
    "google-lb": re.compile(rb'\s*\{(?=.*"httpRequest" ?: ?\{)(?=.*"insertId" ?:)'),
}


def ready_mapping(head: bytes) -> str:
    """Return the name of the shipped mapping for a file that begins with these bytes, "" if there is none."""
    lines = [line for line in head.split(b"\n")[:COMPARED] if line.strip() and not line.startswith(b"#")]
    for name, pattern in _LINES.items():
        if lines and sum(pattern.match(line) is not None for line in lines) >= _MOST * len(lines):
            return name
    return ""


def path_of(name: str) -> Path:
    """Return the file of a shipped mapping."""
    return TEMPLATES / "mappings" / f"{name}.yaml"


def layout_of(name: str) -> CsvFormat | None:
    """Return the layout that a shipped mapping states, None if it states none."""
    return load_mapping(path_of(name).read_text(), name).csv
