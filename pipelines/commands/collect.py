"""`audience collect`: take events over HTTP into a log, and manage the keys of who may send them."""

import ipaddress
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

from pipelines.commands import Command, number
from pipelines.system.terminal import option, say, shown
from transforms.errors import OptionError

HOST, PORT = "127.0.0.1", 8090
GIGABYTES = 10
OVERLAP_DAYS = 7
_MANAGING = ("add_key", "remove_key", "add_webhook")
_OF_KEYS = {"source": ("add_key", "add_webhook"), "rate": ("add_key",), "overlap_days": ("add_key",)}
_SERVING = ("log", "host", "port", "log_gigabytes", "allow_origins", "proxies", "addresses", "privacy_signals", "topic")


def add_options(parser) -> None:
    parser.add_argument("--log", metavar="DIR", help="Folder of the log, created if needed (required to collect)")
    parser.add_argument("--host", help=f"Address to listen on; one that is not loopback needs --keys (default: {HOST})")
    parser.add_argument("--port", help=f"Port to listen on (default: {PORT})")
    parser.add_argument("--keys", metavar="FILE", help="File of write keys and webhooks; without it any key is taken")
    parser.add_argument(
        "--log_gigabytes",
        metavar="N",
        help=f"GB of the log that are not read yet, above which events are refused (default: {GIGABYTES})",
    )
    parser.add_argument(
        "--allow_origins",
        nargs="+",
        metavar="ORIGIN",
        help="Pages that may send events, e.g. https://shop.example, or * for all (default: none)",
    )
    parser.add_argument(
        "--proxies",
        nargs="+",
        metavar="ADDRESS",
        help="Addresses or networks of proxies, whose X-Forwarded-For is believed (default: none)",
    )
    parser.add_argument(
        "--addresses",
        choices=("cut", "hash", "drop", "keep"),
        help="What is stored of a client's address: its network, a keyed hash that changes each day, nothing, or the "
        "whole address (default: cut)",
    )
    parser.add_argument(
        "--privacy_signals",
        choices=("anonymous", "drop", "ignore"),
        help="What is stored of a browser that sends DNT or Sec-GPC: its events without the person, nothing, or all "
        "(default: anonymous)",
    )
    parser.add_argument(
        "--topic",
        metavar="projects/PROJECT/topics/NAME",
        help="Pub/Sub topic to which the log is published, in place of `audience run --input_log`",
    )
    keys = parser.add_argument_group("keys (each changes the file of --keys, and a running collector reads it again)")
    which = keys.add_mutually_exclusive_group()
    which.add_argument("--add_key", metavar="NAME", help="Make a write key and print it; the file holds only its hash")
    which.add_argument("--add_webhook", metavar="NAME", help="Add a webhook, whose secret is read from standard input")
    which.add_argument("--remove_key", metavar="NAME", help="Remove the keys or the webhook of a name at once")
    keys.add_argument("--source", metavar="NAME", help="Source of the events, which chooses their mapping")
    keys.add_argument("--rate", metavar="N", help="Events per second of the key (default: no limit)")
    keys.add_argument(
        "--overlap_days",
        metavar="N",
        help=f"Days for which earlier keys of the name stay valid (default: {OVERLAP_DAYS})",
    )


def run(values, rest) -> None:
    mode = next((name for name in _MANAGING if getattr(values, name) is not None), None)
    _check_together(values, mode)
    if mode is None:
        _collect(values)
    else:
        {"add_key": _add_key, "remove_key": _remove_key, "add_webhook": _add_webhook}[mode](values)


def _check_together(values, mode: str | None) -> None:
    for name in _SERVING if mode else ():
        if getattr(values, name) is not None:
            raise OptionError(f"--{name}: only to collect; leave it out with --{mode}")
    for name, modes in _OF_KEYS.items():
        if getattr(values, name) is not None and mode not in modes:
            raise OptionError(f"--{name}: only with {' or '.join(f'--{each}' for each in modes)}; leave it out")
    if mode and values.keys is None:
        raise OptionError(f"--{mode} needs --keys FILE, the file that it changes")
    if mode in ("add_key", "add_webhook") and values.source is None:
        raise OptionError(f"--{mode} needs --source NAME, the source of the events")
    if mode is None and values.log is None:
        raise OptionError("give the folder of the log with --log DIR; see audience collect --help")


def _add_key(values) -> None:
    from pipelines.apps.collector.keys import add_key

    rate = None if values.rate is None else number("rate", values.rate, 0.01, 10_000_000)
    days = number("overlap_days", values.overlap_days or str(OVERLAP_DAYS), 0, 3_650)
    print(add_key(values.keys, values.add_key, values.source, rate, timedelta(days=days)))
    say("the key is shown only now; its clients send it as a Bearer token, or as their library does")


def _remove_key(values) -> None:
    from pipelines.apps.collector.keys import remove_key

    say(f"removed: {remove_key(values.keys, values.remove_key)}")


def _add_webhook(values) -> None:
    import sys

    from pipelines.apps.collector.keys import LONGEST_KEY, add_webhook

    secret = sys.stdin.readline(LONGEST_KEY + 2).rstrip("\r\n")
    add_webhook(values.keys, values.add_webhook, values.source, secret)
    say(f"senders use the path /webhooks/{values.add_webhook}")


def _collect(values) -> None:
    host = values.host or HOST
    port = _port(values.port or str(PORT))
    gigabytes = number("log_gigabytes", values.log_gigabytes or str(GIGABYTES), 0.001, 1_000_000)
    from pipelines.apps.collector.serve import address_of, installed, leave, serve

    server, address = installed(), address_of(host, port)
    if values.keys is None and not ipaddress.ip_address(address).is_loopback:
        raise OptionError(f"--host: got {host!r}; without --keys allowed: a loopback address, e.g. {HOST}")
    from pipelines.apps.collector.dialects import dialects_with
    from pipelines.apps.collector.keys import Secrets
    from pipelines.apps.collector.server import Collector, application
    from pipelines.sources.log.writer import LogWriter

    rules = _rules(values)
    if values.topic is not None:
        from pipelines.sources.pubsub.check import check_topic

        check_topic(values.topic, "topic")
    with ExitStack() as opened:
        log = opened.enter_context(closing(LogWriter(Path(values.log), most_bytes=int(gigabytes * 1e9))))
        collector = Collector(log, dialects_with(Secrets(rules.keys)), rules, say)
        if values.topic is not None:
            from pipelines.apps.collector.forward import forwarding

            collector.further = opened.enter_context(forwarding(Path(values.log), values.topic, say)).gauges
        serve(application(collector), address, port, lambda: say("\n".join(_lines(values, host, port))), server)
    say("stopped: what was answered is in the log")
    leave()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 65_535):
        raise OptionError(f"--port: got {text!r}; allowed: a whole number from 1 to 65,535")
    return int(text)


def _rules(values):
    from pipelines.apps.collector.intake import Rules
    from pipelines.apps.collector.keys import KeyFile
    from pipelines.apps.collector.privacy import Privacy, proxies_of

    try:
        is_proxy = proxies_of(values.proxies or [])
    except ValueError as error:
        raise OptionError(f"--proxies: {error}; allowed: addresses and networks, e.g. 10.0.0.0/8") from None
    keys = None if values.keys is None else KeyFile(values.keys, say)
    privacy = Privacy(values.addresses or "cut", values.privacy_signals or "anonymous")
    return Rules(keys, frozenset(map(_origin, values.allow_origins or [])), privacy, is_proxy)


def _origin(text: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        is_origin = bool(parts.hostname) and text.lower() == f"{parts.scheme}://{parts.netloc}".lower()
    except ValueError:
        is_origin = False
    if text != "*" and not (is_origin and "@" not in text):
        raise OptionError(f"--allow_origins: got {text!r}; allowed: scheme and host, e.g. https://shop.example, or *")
    return text.lower()


def _lines(values, host: str, port: int) -> list[str]:
    """What a user reads when the collector listens."""
    where = f"[{host}]" if ":" in host else host
    lines = [f"collecting on http://{where}:{port} into {shown(values.log)}; Ctrl-C stops it"]
    if values.keys is None:
        lines.append("without --keys any write key is taken, from this machine only")
    if not values.allow_origins:
        lines.append("no web page may send events; name those that may with --allow_origins")
    if values.topic is not None:
        lines.append(f"publishing to {shown(values.topic)}")
    else:
        lines.append(f"next: audience run {option('input_log', values.log)} --warehouse warehouse")
    return lines


COMMAND = Command(
    add_options,
    run,
    "Take events over HTTP from trackers and webhooks into a log.",
    "audience collect --log collected --keys keys.json --allow_origins https://shop.example",
)
