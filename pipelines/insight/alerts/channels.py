"""How a message is sent. Each kind of channel is a function of its settings and a message.

    sender(name, channel) -> send; send(message) raises Refused, or NotNow after retries with back-off

webhook  Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks, spec): headers `webhook-id`,
         `webhook-timestamp`, `webhook-signature`: `v1,` and HMAC-SHA256 of `id.timestamp.body` in base64
slack    incoming webhooks (https://api.slack.com/messaging/webhooks): `{"text": ...}` with & < > escaped
pubsub   the body as data, `webhook-id` as attribute
kafka    the body as value, the alert's message id as key, and as the header `webhook-id`
email    SMTP with STARTTLS; the Message-ID is made of the id

A secret is read when a message is sent, and is in no message, log or error. Redirects are not followed.
"""

import base64
import binascii
import hashlib
import hmac
import http.client
import os
import smtplib
import ssl
import stat
import time
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from pipelines.insight.alerts.outbox import BodyRefused, Message, NotNow, Refused
from pipelines.settings.alerts import Channel, Email, KafkaTopic, PubSubTopic, Secret, Slack, Webhook, refused_url
from pipelines.sources.retries import waits
from pipelines.version import VERSION
from transforms.errors import OptionError, SourceError, first_line

SECONDS = 15.0  # for one try
ANSWER_BYTES = 1 << 20  # of an answer that are read
LIMIT_SECONDS = 20.0  # after which a channel that takes nothing is left to the next delivery
OF_THE_BODY = {400, 413, 422}  # statuses by which what was sent is refused, and not its sender
AGAIN = {408, 409, 425, 429}  # besides 5xx: statuses after which a retry may succeed
Send = Callable[[Message], None]
T = TypeVar("T")


def sender(channel: Channel, limit: float = LIMIT_SECONDS) -> Send:
    """The function that sends a message over a channel, with retries until the limit in seconds."""
    once: dict[type, Callable[..., None]] = {
        Webhook: _webhook,
        Slack: _slack,
        PubSubTopic: _pubsub,
        KafkaTopic: _kafka,
        Email: _email,
    }
    return lambda message: retried(partial(once[type(channel)], channel, message), limit)


def retried(send: Callable[[], T], limit: float) -> T:
    """What a send returns, tried again while it raises NotNow and the limit in seconds allows."""
    until = time.monotonic() + limit
    for wait in waits():
        try:
            return send()
        except NotNow:
            if time.monotonic() + wait >= until:
                raise
        time.sleep(wait)
    raise AssertionError("waits never end")


def secret_of(secret: Secret) -> str:
    """The secret itself. Raises NotNow with where it was looked for, and never with what was found."""
    if secret.env is not None:
        found = os.environ.get(secret.env, "").strip()
        if not found:
            raise NotNow(f"the environment variable {secret.env} is not set")
        return found
    path = Path(secret.file or "")
    try:
        with open(path, encoding="utf-8") as file:
            if mode := stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise NotNow(f"{path} may be read by others (mode {mode:04o} too much); run: chmod 600 FILE")
            return file.read(10_000).strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise NotNow(f"{path}: {getattr(problem, 'strerror', None) or 'not UTF-8'}") from None


def fault(channel: Channel) -> str:
    """Why nothing can be sent over a channel as it is configured here; empty: nothing is known. Nothing is sent."""
    try:
        if isinstance(channel, Webhook):
            signature(secret_of(channel.secret), "", 0, b"")
        elif isinstance(channel, Slack):
            return refused_url(secret_of(channel.url))
        elif isinstance(channel, Email) and channel.password is not None:
            secret_of(channel.password)
    except NotNow as problem:
        return first_line(problem)
    return ""


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """The signature of Standard Webhooks. Raises NotNow for a secret of another form."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise NotNow("the secret is not of the form of Standard Webhooks: whsec_ and 24 to 64 bytes in base64")
    signed = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def post_signed(channel: Webhook, id: str, body: bytes) -> bytes:
    """Send a signed body once; the answer's. Raises Refused, NotNow."""
    now = int(time.time())
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(secret_of(channel.secret), id, now, body),
    }
    return _post(channel.url, body, headers)


def _webhook(channel: Webhook, message: Message) -> None:
    post_signed(channel, message.id, message.body.encode())


def _slack(channel: Slack, message: Message) -> None:
    url = secret_of(channel.url)
    if reason := refused_url(url):
        raise NotNow(f"its URL: {reason}")
    text = f"{message.title}\n{message.text}"
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, written)
    _post(url, msgspec.json.encode({"text": text}), {})


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=SECONDS)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    known = {"Content-Type": "application/json", "User-Agent": f"audience-insights/{VERSION}"}
    try:
        connection.request("POST", path, body, known | dict(headers))
        answer = connection.getresponse()
        answered = answer.read(ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as problem:  # ssl.SSLError is an OSError
        raise NotNow(f"{parts.hostname}: {type(problem).__name__}: {problem}") from None
    finally:
        connection.close()
    if answer.status in AGAIN or answer.status >= 500:
        raise NotNow(f"{parts.hostname} answers {answer.status}")
    if not 200 <= answer.status < 300:
        refusal = BodyRefused if answer.status in OF_THE_BODY else Refused
        raise refusal(f"{parts.hostname} answers {answer.status}")
    return answered


def _pubsub(channel: PubSubTopic, message: Message) -> None:
    import grpc

    from pipelines.sources.pubsub.client import PubSub, PubsubMessage, describe_error, is_refusal

    client = PubSub()
    try:
        attributes = {"webhook-id": message.id}
        client.publish(channel.topic, [PubsubMessage(data=message.body.encode(), attributes=attributes)])
    except grpc.RpcError as error:
        raise (Refused if is_refusal(error) else NotNow)(f"{channel.topic}: {describe_error(error)}") from None
    finally:
        client.close()


def _kafka(channel: KafkaTopic, message: Message) -> None:
    from pipelines.sources.kafka.client import (
        Connection,
        NotReached,
        check_output,
        describe_error,
        is_refusal,
        make_producer,
    )

    answers: list[Any] = []
    connection = Connection(channel.servers, channel.properties)
    try:
        check_output(channel.topic, connection, f"topic {channel.topic}")
        producer = make_producer(connection, SECONDS)
    except (OptionError, NotReached) as problem:
        raise NotNow(f"{problem}") from None
    except SourceError as problem:
        raise Refused(f"{problem}") from None
    headers = [("webhook-id", message.id)]
    producer.produce(
        channel.topic,
        message.body.encode(),
        message.id,
        headers=headers,
        on_delivery=lambda error, _: answers.append(error),
    )
    producer.flush(SECONDS + 1)
    error = answers[0] if answers else None
    if not answers or error is not None:
        refused = error is not None and is_refusal(error)
        raise (Refused if refused else NotNow)(f"{channel.topic}: {describe_error(error)}")


def _email(channel: Email, message: Message) -> None:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = channel.sender, ", ".join(channel.to), message.title
    made["Message-ID"] = f"<{message.id}@{channel.sender.rpartition('@')[2]}>"
    made["Date"] = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(message.time))
    made.set_content(f"{message.text}\n\n{message.body}\n")
    try:
        with smtplib.SMTP(channel.host, channel.port, timeout=SECONDS) as server:
            if channel.tls:
                server.starttls(context=ssl.create_default_context())
            if channel.user is not None and channel.password is not None:
                server.login(channel.user, secret_of(channel.password))
            server.send_message(made)
    except smtplib.SMTPRecipientsRefused as problem:
        codes = sorted({code for code, _ in problem.recipients.values()})
        raise (Refused if min(codes) >= 500 else NotNow)(f"{channel.host} refuses the receivers: {codes}") from None
    except smtplib.SMTPResponseException as problem:
        refused = 500 <= problem.smtp_code < 600 and not isinstance(problem, smtplib.SMTPAuthenticationError)
        raise (Refused if refused else NotNow)(f"{channel.host} answers {problem.smtp_code}") from None
    except (OSError, smtplib.SMTPException) as problem:
        raise NotNow(f"{channel.host}: {type(problem).__name__}") from None
