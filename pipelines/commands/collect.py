"""`audience collect`: take events over HTTP into a log, and manage the keys of who may send them."""

import ipaddress
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from pathlib import Path

from pipelines.commands import Command, number, port_of
from pipelines.system.terminal import option, say, shown
from transforms.errors import OptionError

HOST, PORT = "127.0.0.1", 8090
GIGABYTES = 10
OVERLAP_DAYS = 7
_MANAGING = ("add_key", "remove_key", "add_webhook")
_OF_KEYS = {"source": ("add_key", "add_webhook"), "rate": ("add_key",), "overlap_days": ("add_key",)}
_CONSENT = ("consent", "without_consent", "unstated_consent")
_OF_KAFKA = ("kafka_servers", "kafka_properties")
_SERVING = (
    "log",
    "host",
    "port",
    "log_gigabytes",
    "allow_origins",
    "proxies",
    "addresses",
    "privacy_signals",
    *_CONSENT,
    "topic",
    "output_kafka",
    *_OF_KAFKA,
)


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
    _add_privacy(parser)
    _add_targets(parser)
    _add_keys(parser)


def _add_targets(parser) -> None:
    targets = parser.add_argument_group("topics to which the log is published, in place of `audience run --input_log`")
    which = targets.add_mutually_exclusive_group()
    which.add_argument("--topic", metavar="projects/PROJECT/topics/NAME", help="A topic of Pub/Sub")
    which.add_argument("--output_kafka", metavar="TOPIC", help="A topic of Kafka")
    targets.add_argument("--kafka_servers", metavar="HOST:PORT,...", help="With --output_kafka: servers to ask first")
    targets.add_argument(
        "--kafka_properties",
        metavar="FILE",
        help="With --output_kafka: file of properties of librdkafka, as lines NAME=VALUE; passwords stand there",
    )


def _add_privacy(parser) -> None:
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
        "--consent",
        nargs="+",
        metavar="PURPOSE",
        help="Purposes that the person of an event must have agreed to, all of them, as its client names them, e.g. "
        "analytics_storage (default: none is needed)",
    )
    parser.add_argument(
        "--without_consent",
        choices=("anonymous", "drop"),
        help="What becomes of an event without it: it is kept without the person, or dropped (default: anonymous)",
    )
    parser.add_argument(
        "--unstated_consent",
        choices=("denied", "granted"),
        help="What holds for a purpose of which an event says nothing (default: denied)",
    )


def _add_keys(parser) -> None:
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
    for name in _CONSENT[1:]:
        if getattr(values, name) is not None and values.consent is None:
            raise OptionError(f"--{name}: only with --consent PURPOSE; give it, or leave --{name} out")
    for name in _OF_KAFKA if values.output_kafka is None else ():
        if getattr(values, name) is not None:
            raise OptionError(f"--{name}: only with --output_kafka TOPIC; give it, or leave --{name} out")
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


def _tell(text: str) -> None:
    """Say a line, or nothing where that cannot be written: a full disk often holds the output of the collector too."""
    with suppress(OSError):
        say(text)


def _collect(values) -> None:
    host = values.host or HOST
    port = port_of(values.port or str(PORT))
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
    target = _target(values)
    with ExitStack() as opened:
        log = opened.enter_context(closing(LogWriter(Path(values.log), most_bytes=int(gigabytes * 1e9))))
        collector = Collector(log, dialects_with(Secrets(rules.keys)), rules, _tell)
        if target is not None:
            from pipelines.apps.collector.forward import forwarding

            collector.further = opened.enter_context(forwarding(Path(values.log), target, _tell)).gauges
        serve(application(collector), address, port, lambda: _tell("\n".join(_lines(values, host, port))), server)
    _tell("stopped: what was answered is in the log")
    leave()


def _target(values):
    """What connects to where the log is published; None: nowhere. Errors: OptionError, SourceError for a topic that is
    not there. Where it cannot be reached, the log keeps what comes until it can."""
    if values.topic is not None:
        from pipelines.apps.collector.forward_pubsub import PubSubTarget
        from pipelines.sources.pubsub.check import NotReached, check_topic

        _checked(lambda: check_topic(values.topic, "topic"), NotReached)
        return lambda: PubSubTarget(values.topic)
    if values.output_kafka is not None:
        from pipelines.apps.collector.forward_kafka import KafkaTarget
        from pipelines.sources.kafka.client import Connection, check_output
        from pipelines.sources.kafka.client import NotReached as NoBroker

        connection = Connection(values.kafka_servers, values.kafka_properties)
        _checked(lambda: check_output(values.output_kafka, connection), NoBroker)
        return lambda: KafkaTarget(values.output_kafka, connection)
    return None


def _checked(check, not_reached: type[Exception]) -> None:
    try:
        check()
    except not_reached as error:
        _tell(f"{error}; until then the log keeps what comes")


def _rules(values):
    from pipelines.apps.collector.consent import needing
    from pipelines.apps.collector.intake import Rules
    from pipelines.apps.collector.keys import KeyFile
    from pipelines.apps.collector.privacy import Privacy, proxies_of

    try:
        is_proxy = proxies_of(values.proxies or [])
    except ValueError as error:
        raise OptionError(f"--proxies: {error}; allowed: addresses and networks, e.g. 10.0.0.0/8") from None
    keys = None if values.keys is None else KeyFile(values.keys, _tell)
    privacy = Privacy(values.addresses or "cut", values.privacy_signals or "anonymous")
    if any(not each.strip() for each in values.consent or ()):
        raise OptionError("--consent: got a purpose that is empty; allowed: names of purposes, e.g. analytics_storage")
    consent = needing(values.consent or (), values.without_consent, values.unstated_consent)
    return Rules(keys, frozenset(map(_origin, values.allow_origins or [])), privacy, consent, is_proxy)


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
    if (topic := values.topic or values.output_kafka) is not None:
        lines.append(f"publishing to {shown(topic)}")
    else:
        lines.append(f"next: audience run {option('input_log', values.log)} --warehouse warehouse")
    return lines


COMMAND = Command(
    add_options,
    run,
    "Take events over HTTP from trackers and webhooks into a log.",
    "audience collect --log collected --keys keys.json --allow_origins https://shop.example",
)
