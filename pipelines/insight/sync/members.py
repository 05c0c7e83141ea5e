"""Who is in a segment now, and what changed since a target was last told.

members   person (String), row (String): the attributes as JSON, in the order of the query's columns
changes   action (String: add, change, remove), person, row, before (String): the new row, and the one of before
"""

import hashlib
import re
from decimal import Decimal

import msgspec
import polars as pl

from pipelines.settings.sync import Segment
from pipelines.warehouse.ask import run_query
from pipelines.warehouse.interface import Warehouse
from transforms.errors import OptionError

MEMBERS = {"person": pl.String, "row": pl.String}
CHANGES = {"action": pl.String, "person": pl.String, "row": pl.String, "before": pl.String}
ADD, CHANGE, REMOVE = "add", "change", "remove"


def members(warehouse: Warehouse, name: str, segment: Segment) -> pl.DataFrame:
    """The members of a segment, by person. Errors: OptionError for a query that fails or has no column `person`, or
    names a person twice; those of `run_query`."""
    found = _asked(warehouse, segment.query, f"sync.segments.{name}.query")
    if segment.consent is not None:
        agreed = _asked(warehouse, segment.consent, f"sync.segments.{name}.consent", once=False)
        found = found.join(agreed.select("person").unique(), on="person", how="semi")
    columns = {column: found[column].to_list() for column in found.columns if column != "person"}
    if columns:
        rows = [_json(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
    else:
        rows = ["{}"] * found.height
    return found.select("person", row=pl.Series("row", rows, pl.String)).sort("person")


def _asked(warehouse: Warehouse, sql: str, where: str, once: bool = True) -> pl.DataFrame:
    dialect = "duckdb" if warehouse.local_path is not None else "bigquery"
    try:
        answer = run_query(warehouse, sql, dialect)
        found = answer.frame()
    except OptionError as problem:
        raise OptionError(f"{where}: {problem}") from None
    if "person" not in answer.columns:
        raise OptionError(f"{where}: got the columns {', '.join(answer.columns)}; allowed: one is `person`")
    if found.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(answer.columns, pl.String))
    found = found.with_columns(pl.col("person").cast(pl.String)).filter(pl.col("person").is_not_null())
    if once and (twice := found.height - found["person"].n_unique()):
        raise OptionError(f"{where}: got {twice:,} persons more than once; allowed: a row for each person")
    return found


def _json(row: dict) -> str:
    return msgspec.json.encode(row, enc_hook=_text).decode()


def _text(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else str(value)


def changes(now: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """What a target that knows `known` has to be told, by person."""
    both = now.join(known.rename({"row": "before"}), on="person", how="full", coalesce=True)
    action = (
        pl.when(pl.col("before").is_null())
        .then(pl.lit(ADD))
        .when(pl.col("row").is_null())
        .then(pl.lit(REMOVE))
        .otherwise(pl.lit(CHANGE))
    )
    differs = pl.col("row").ne_missing(pl.col("before"))
    return both.filter(differs).select(action.alias("action"), "person", "row", "before").sort("person")


def applied(known: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """What a target knows after these changes; idempotent."""
    kept = known.join(told, on="person", how="anti")
    return pl.concat([kept, told.filter(pl.col("row").is_not_null()).select("person", "row")]).sort("person")


# How Google Ads wants identifiers before they are hashed:
# https://support.google.com/google-ads/answer/7659867 (Customer Match: format your data)
_GMAIL = ("gmail.com", "googlemail.com")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
HASHED = {"email": "Email", "phone": "Phone", "first_name": "First Name", "last_name": "Last Name"}
PLAIN = {"country": "Country", "zip": "Zip"}


def hashed(found: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Members in the form of Customer Match, whose identifiers are SHA-256 in hexadecimal; and how many have neither
    an e-mail address nor a phone number that can be one, and are left out."""
    persons, rows = [], []
    for person, row in found.select("person", "row").iter_rows():
        form = customer(msgspec.json.decode(row))
        if form:
            persons.append(person)
            rows.append(msgspec.json.encode(form).decode())
    told = pl.DataFrame({"person": persons, "row": rows}, schema=MEMBERS)
    return told, found.height - told.height


def customer(attributes: dict) -> dict[str, str]:
    """The columns of a person in Customer Match; none without an e-mail address or a phone number."""
    texts = {name: str(value).strip().lower() for name, value in attributes.items() if value not in (None, "")}
    email, phone = texts.get("email", ""), re.sub(r"[\s().-]", "", texts.get("phone", ""))
    name, _, host = email.rpartition("@")
    if host in _GMAIL:
        email = f"{name.partition('+')[0].replace('.', '')}@{host}"
    found = texts | {
        "email": email if _EMAIL.fullmatch(email) else "",
        "phone": phone if _PHONE.fullmatch(phone) else "",
    }
    if not found["email"] and not found["phone"]:
        return {}
    form = {HASHED[name]: hashlib.sha256(found[name].encode()).hexdigest() for name in HASHED if found.get(name)}
    return form | {PLAIN[name]: found[name] for name in PLAIN if found.get(name)}
