"""`audience live`: one page about a warehouse as it is now, and the links of who may open it from elsewhere."""

import ipaddress
import re
from datetime import timedelta

from pipelines.commands import Command, number, port_of
from pipelines.settings.arguments import add_all, add_to
from pipelines.settings.options import DURATION, DURATION_IN_WORDS
from pipelines.settings.values import NAMED, Given, value_of
from pipelines.system.terminal import say, shown
from transforms.errors import OptionError

HOST, PORT = "127.0.0.1", 8091
EVERY_LOCAL, EVERY_BIGQUERY = 0.5, 60.0  # seconds
LEAST_LOCAL, LEAST_BIGQUERY, MOST_EVERY = 0.2, 10.0, 3_600.0
BYTES_BILLED = 1_000_000_000
LASTING, KEY_LASTING = "7d", "90d"
LOG, COLLECT_PORT = "collected", 8090
SIMULATED = 10**12  # events: more than anybody waits for
EARLY = "10s"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MANAGING = ("add_link", "remove_link", "add_reader", "remove_reader")
_FILES = {"link": "links", "reader": "people_keys"}  # what a mode changes, by its last word
_OF_PARTS = ("collect_port", "keys", "mapping", "simulate", "prism_location", "refresh_every")
_OF_MODES = {
    "lasting": ("for", ("add_link", "add_reader")),
    "url": ("url", ("add_link",)),
    "reads": ("reads", ("add_reader",)),
    "rate": ("rate", ("add_reader",)),
}
_SERVING = ("warehouse", "dataset", "config", "host", "port", "every", "maximum_bytes_billed", "collect", *_OF_PARTS)


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "config"))
    page = parser.add_argument_group("page")
    page.add_argument("--host", help=f"Address to listen on; one that is not loopback needs --links (default: {HOST})")
    page.add_argument("--port", help=f"Port to listen on (default: {PORT})")
    page.add_argument(
        "--every",
        metavar="SECONDS",
        help="Seconds between two ticks while the page is open: from "
        f"{LEAST_LOCAL:g} on for a folder, from {LEAST_BIGQUERY:g} on for BigQuery (default: {EVERY_LOCAL:g}, "
        f"{EVERY_BIGQUERY:g})",
    )
    page.add_argument(
        "--maximum_bytes_billed",
        metavar="BYTES",
        help=f"With --dataset: bytes that BigQuery may bill for one question; it refuses one that would read more "
        f"(default: {BYTES_BILLED})",
    )
    parts = parser.add_argument_group("collector and stream")
    parts.add_argument(
        "--collect",
        metavar="DIR",
        nargs="?",
        const=LOG,
        help=f"Start a collector and a stream into the warehouse too; folder of the collector's log (default: {LOG})",
    )
    parts.add_argument("--collect_port", metavar="PORT", help=f"Port of the collector (default: {COLLECT_PORT})")
    parts.add_argument("--keys", metavar="FILE", help="The collector's write keys; see audience collect")
    parts.add_argument("--mapping", metavar="FILE", action="append", help="Mapping of a source; may be repeated")
    parts.add_argument("--simulate", metavar="RATE", help="Send simulated events to the collector, so many a second")
    parts.add_argument("--prism_location", metavar="PATH", help="Prism binary (default: the one from `make prism`)")
    add_to(parts, NAMED["refresh_every"])
    links = parser.add_argument_group("links (each changes the file of --links, and a running page reads it again)")
    links.add_argument("--links", metavar="FILE", help="File of links; with it, the page opens by a link alone")
    which = links.add_mutually_exclusive_group()
    which.add_argument("--add_link", metavar="NAME", help="Make a read-only link and print it; the file holds a hash")
    which.add_argument("--remove_link", metavar="NAME", help="Remove the links of a name at once")
    links.add_argument(
        "--for",
        dest="lasting",
        metavar="TIME",
        help=f"How long the link or the key lasts (default: {LASTING}, {KEY_LASTING})",
    )
    links.add_argument("--url", metavar="URL", help="Address of the page as its readers reach it, for the link")
    _add_people(parser)


def _add_people(parser) -> None:
    people = parser.add_argument_group("people (each changes the file of --people_keys, which is read again)")
    people.add_argument(
        "--people_keys",
        metavar="FILE",
        help="File of read keys; with it, whoever has one asks /v1/profiles/PERSON, /v1/recommendations/PERSON and the "
        "page /person (default: nobody does)",
    )
    which = people.add_mutually_exclusive_group()
    which.add_argument(
        "--add_reader", metavar="NAME", help="Make a read key and print it; the file holds only its hash"
    )
    which.add_argument("--remove_reader", metavar="NAME", help="Remove the keys of a name at once")
    people.add_argument(
        "--reads", choices=("profiles", "recommendations"), help="What the key may read (default: both)"
    )
    people.add_argument("--rate", metavar="N", help="Requests per second of the key (default: no limit)")


def run(values, rest) -> None:
    mode = next((name for name in _MANAGING if getattr(values, name) is not None), None)
    _check_together(values, mode)
    if mode is None and values.collect is not None:
        _run_together(values)
    elif mode is None:
        _serve(values)
    else:
        {
            "add_link": _add_link,
            "remove_link": _remove_link,
            "add_reader": _add_reader,
            "remove_reader": _remove_reader,
        }[mode](values)


def _check_together(values, mode: str | None) -> None:
    for name in _SERVING if mode else ():
        if getattr(values, name) is not None:
            raise OptionError(f"--{name}: only to serve the page; leave it out with --{mode}")
    for name, (word, modes) in _OF_MODES.items():
        if getattr(values, name) is not None and mode not in modes:
            raise OptionError(f"--{word}: only with {' or '.join(f'--{each}' for each in modes)}; leave it out")
    for one, other in (("link", "people_keys"), ("reader", "links")):
        if mode and mode.endswith(one) and getattr(values, other) is not None:
            raise OptionError(f"--{other}: not with --{mode}; leave it out")
    for name in _OF_PARTS if values.collect is None else ():
        if getattr(values, name) is not None:
            raise OptionError(f"--{name}: only with --collect; leave it out")
    if mode and getattr(values, file := _FILES[mode.rpartition("_")[2]]) is None:
        raise OptionError(f"--{mode} needs --{file} FILE, the file that it changes")


def _add_link(values) -> None:
    from pipelines.apps.live.links import add_link

    lasting = _lasting(values.lasting or LASTING)
    url = _url(values.url or f"http://{HOST}:{PORT}")
    token, until = add_link(values.links, values.add_link, lasting)
    print(f"{url}/#{token}")
    say(
        f"the link is shown only now; it ends on {until:%Y-%m-%d at %H:%M} UTC, or with --remove_link {values.add_link}"
    )


def _lasting(text: str) -> timedelta:
    if not re.fullmatch(DURATION, text) or not int(text[:-1]):
        raise OptionError(f"--for: got {text!r}; allowed: {DURATION_IN_WORDS}")
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.fragment
        is_address = is_address and not parts.query and "@" not in text and text.isprintable()
    except ValueError:
        is_address = False
    if not is_address:
        raise OptionError(f"--url: got {text!r}; allowed: scheme, host and path, e.g. https://live.example")
    return text.rstrip("/")


def _remove_link(values) -> None:
    from pipelines.apps.live.links import remove_link

    say(f"removed: {remove_link(values.links, values.remove_link)}")


def _add_reader(values) -> None:
    from pipelines.apps.live.people.keys import ANSWERS, add_reader

    lasting = _lasting(values.lasting or KEY_LASTING)
    rate = None if values.rate is None else number("rate", values.rate, 0.1, 1_000_000)
    reads = ANSWERS if values.reads is None else (values.reads,)
    key, until = add_reader(values.people_keys, values.add_reader, lasting, reads, rate)
    print(key)
    say(
        f"the key is shown only now; it ends on {until:%Y-%m-%d at %H:%M} UTC, or with --remove_reader "
        f"{values.add_reader}; earlier keys of the name end in 7 days"
    )


def _remove_reader(values) -> None:
    from pipelines.apps.live.people.keys import remove_reader

    say(f"removed: {remove_reader(values.people_keys, values.remove_reader)}")


def _run_together(values) -> None:
    port = port_of(values.port or str(PORT))
    to = port_of(values.collect_port or str(COLLECT_PORT), "collect_port")
    if port == to:
        raise OptionError(f"--port and --collect_port: got {port} for both; allowed: two ports")
    if values.keys is not None and values.simulate is not None:
        raise OptionError("--simulate: not with --keys; use audience simulate --output_url URL --key_file FILE")
    if values.refresh_every is not None:
        value_of(NAMED["refresh_every"], Given(values.refresh_every, "option"))
    rate = None if values.simulate is None else number("simulate", values.simulate, 1, 100_000)
    from pathlib import Path

    from pipelines.apps.collector.serve import address_of, installed
    from pipelines.apps.live.together import Part, answers, run_together
    from pipelines.settings.resolve import place_of

    place = place_of(vars(values))
    if place.dataset is not None or place.warehouse is None:
        raise OptionError("--collect: only into a folder; give --warehouse, or start audience collect, run and live")
    installed()
    address_of(values.host or HOST, port)
    address_of(HOST, to, "collect_port")
    warehouse, url = Path(place.warehouse), f"http://{HOST}:{to}"
    parts = [
        Part("collector", ["collect", "--log", values.collect, "--port", str(to), *_given(values, "keys")],
             lambda: answers(to, "/readyz")),
        Part("stream", ["run", "--input_log", values.collect, "--warehouse", place.warehouse, *_early(values),
                        *_given(values, "config", "mapping", "prism_location", "refresh_every")],
             (warehouse / "warehouse.json").exists),
        Part("page", ["live", "--warehouse", place.warehouse, "--port", str(port),
                      *_given(values, "config", "host", "every", "links", "people_keys")],
             lambda: answers(port, "/healthz")),
    ]  # fmt: skip
    if rate is not None:
        feed = ["simulate", "--output_url", url, "--rate", f"{rate:g}", "--events", str(SIMULATED)]
        parts.append(Part("simulator", [*feed, "--faults", "usual", "--faults", "invalid_source=0"], lambda: True))
    where = f"http://{values.host or HOST}:{port}"
    run_together(parts, say, lambda: say(f"open {where}; trackers send to {url}; Ctrl-C stops all"))
    say("stopped: what was answered is in the log or in the warehouse")


def _early(values) -> list[str]:
    """The words by which a page shows sessions while they are open; a configuration file decides by itself."""
    return ["--early_firing", EARLY] if values.config is None else []


def _given(values, *names: str) -> list[str]:
    """The options of these names that were given, as a command line has them."""
    found: list[str] = []
    for name in names:
        each = getattr(values, name)
        for text in each if isinstance(each, list) else [each] * (each is not None):
            found += [f"--{name}", text]
    return found


def _serve(values) -> None:
    host, port = values.host or HOST, port_of(values.port or str(PORT))
    from pipelines.settings.resolve import place_of

    is_local = place_of(vars(values)).dataset is None
    every = _every(values.every, is_local)
    most_bytes = _most_bytes(values.maximum_bytes_billed, is_local)
    if values.people_keys is not None and not is_local:
        raise OptionError(
            "--people_keys: only of a folder; in a dataset ask the tables user_profiles and recommendations"
        )
    from pipelines.apps.collector.serve import address_of, installed, leave, serve
    from pipelines.apps.live.links import Links
    from pipelines.apps.live.people.keys import Readers

    server, address = installed(), address_of(host, port)
    if values.links is None and not ipaddress.ip_address(address).is_loopback:
        raise OptionError(f"--host: got {host!r}; without --links allowed: a loopback address, e.g. {HOST}")
    links = None if values.links is None else Links(values.links)
    readers = None if values.people_keys is None else Readers(values.people_keys)
    from pipelines.apps.live.page import LivePage
    from pipelines.warehouse.configured import open_asked

    with open_asked(vars(values)) as warehouse:
        page = LivePage(warehouse, every, most_bytes, links, say, readers)

        def begin() -> None:
            page.start()
            say("\n".join(_lines(values, warehouse.name, host, port)))

        serve(page.application, address, port, begin, server, page.stop)
        say("stopped")
    leave()


def _every(text: str | None, is_local: bool) -> float:
    if text is None:
        return EVERY_LOCAL if is_local else EVERY_BIGQUERY
    return number("every", text, LEAST_LOCAL if is_local else LEAST_BIGQUERY, MOST_EVERY)


def _most_bytes(text: str | None, is_local: bool) -> int | None:
    if is_local:
        if text is not None:
            raise OptionError("--maximum_bytes_billed: only with --dataset; a folder bills nothing")
        return None
    if text is not None and not (text.isascii() and text.isdecimal() and 0 < int(text[:19]) < 2**62):
        raise OptionError(
            f"--maximum_bytes_billed: got {text!r}; allowed: a whole number of bytes, e.g. {BYTES_BILLED}"
        )
    return int(text or BYTES_BILLED)


def _lines(values, warehouse: str, host: str, port: int) -> list[str]:
    """What a user reads when the page is there."""
    where = f"[{host}]" if ":" in host else host
    lines = [f"live page of {shown(warehouse)} on http://{where}:{port}; Ctrl-C stops it"]
    if values.links is not None:
        lines.append(f"it opens by a link: audience live --links {shown(values.links)} --add_link NAME")
    if values.people_keys is not None:
        lines.append(f"people by a key: audience live --people_keys {shown(values.people_keys)} --add_reader NAME")
    return lines


COMMAND = Command(
    add_options,
    run,
    "Serve one page about a warehouse as it is now, updated while it is open.",
    "audience live --warehouse warehouse",
)
