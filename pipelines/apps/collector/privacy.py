"""Privacy: what is left out of an event before anything is stored.

Addresses  of the connection, and in the payload under a key of ADDRESS_KEYS: cut to their network, replaced by a keyed
           hash, dropped, or kept
Signals    a browser that sends `DNT: 1` or `Sec-GPC: 1` asks not to be tracked: its events are dropped, or kept
           without the person

A payload changes only where an address stands in it, or for a signal; else its bytes stay as the client sent them.
"""

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from transforms.json_objects import UNREADABLE

ADDRESSES = ("cut", "hash", "drop", "keep")
SIGNALS = ("anonymous", "drop", "ignore")
IPV4_BITS, IPV6_BITS = 24, 48  # what is left of an address that is cut: a network of 256, and the one of a site
HASH_DIGITS = 32

# Keys under which clients send an address, in lower case. Of Segment, PostHog, Snowplow, GA4, and usual names.
ADDRESS_KEYS = (
    *("ip", "$ip", "ip_address", "ipaddress", "client_ip", "clientip", "user_ipaddress", "ip_override"),
    *("remote_addr", "remoteaddr", "remote_ip", "x-forwarded-for"),
)
_ADDRESS = re.compile(
    rb'("(?:%s)"\s*:\s*)"([0-9A-Fa-f:.%%, ]{2,200})"' % b"|".join(re.escape(key).encode() for key in ADDRESS_KEYS),
    re.IGNORECASE,
)
# One of these is in each of the keys: most payloads have none, and need no search by the expression.
ADDRESS_HINTS = (b"ip", b"addr", b"forwarded")

# Keys that hold a person, a device, or what says who it is; compared in lower case, without `$`, `_` and `-`.
_PERSON = """
    userid anonymousid distinctid anondistinctid deviceid advertisingid idfa idfv gaid clientid appinstanceid
    sessionid domainsessionid windowid previousid groupid visitorid personid customerid accountid memberid aliasid
    domainuserid networkuserid userfingerprint fingerprint uid duid nuid tnuid sid fp
    email emailaddress phone phonenumber firstname lastname fullname username birthday
    traits userproperties person personproperties user customer address addresses billingaddress shippingaddress
    useragent ua ip ipaddress location latitude longitude geo lat lon
"""
PERSON_KEYS = frozenset(_PERSON.split())
_DOLLAR_KEYS = frozenset(("$set", "$set_once", "$unset", "$group_set", "$groups"))  # PostHog's
_decode = msgspec.json.Decoder(float_hook=Decimal).decode  # numbers keep their digits
_encode = msgspec.json.Encoder(decimal_format="number").encode
_UNREADABLE = (*UNREADABLE, msgspec.MsgspecError, ValueError)
_MAPPED = bytes(10) + b"\xff\xff"  # the start of the 16 bytes of an IPv4 address within IPv6
_PUNCTUATION = re.compile(r"[$_\-]")


class Privacy:
    """What is done with addresses (ADDRESSES) and with signals (SIGNALS)."""

    def __init__(self, addresses: str = "cut", signals: str = "anonymous"):
        self.addresses, self.signals = addresses, signals
        self._day, self._secret = "", b""

    def signal(self, headers: Mapping[str, str]) -> str | None:
        """Return what a request's signal asks for: `drop`, `anonymous`, or None without a signal that counts."""
        asks = headers.get("dnt") == "1" or headers.get("sec-gpc") == "1"
        return self.signals if asks and self.signals != "ignore" else None

    def address(self, text: str) -> str | None:
        """Return what is stored of an address; None for one that is dropped or not readable."""
        if self.addresses == "drop":
            return None
        if (packed := _packed(text.strip().partition("%")[0])) is None:
            return None
        if self.addresses == "hash":
            return self._hash(packed)
        if self.addresses == "cut":
            left = (IPV4_BITS if len(packed) == 4 else IPV6_BITS) // 8
            packed = packed[:left] + bytes(len(packed) - left)
        return str(ipaddress.ip_address(packed)) if len(packed) > 4 else socket.inet_ntoa(packed)

    def _hash(self, packed: bytes) -> str:
        # A new secret each day, which is stored nowhere: afterwards nobody can find the address by trying all of them.
        if (day := datetime.now(UTC).date().isoformat()) != self._day:
            self._day, self._secret = day, secrets.token_bytes(32)
        return hmac.new(self._secret, packed, hashlib.sha256).hexdigest()[:HASH_DIGITS]

    def payload(self, payload: bytes, signal: str | None = None) -> bytes:
        """Return the payload of an event as it is stored; with the signal `anonymous` without the person."""
        if signal == "anonymous":
            payload = without_person(payload)
        if self.addresses == "keep":
            return payload
        folded = payload.lower()
        if not any(hint in folded for hint in ADDRESS_HINTS):
            return payload
        return _ADDRESS.sub(self._replaced, payload)

    def _replaced(self, found: re.Match[bytes]) -> bytes:
        # A list of addresses is that of a chain of proxies: the first is the client's.
        text = found[2].decode("ascii").partition(",")[0]
        if not {".", ":"} & set(text):
            return found[0]
        stored = self.address(text)
        return found[1] + (b"null" if stored is None else json.dumps(stored).encode())


def _packed(text: str) -> bytes | None:
    """The 4 or 16 bytes of an address, None for what is none; an IPv4 address within IPv6 is IPv4."""
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


def without_person(payload: bytes) -> bytes:
    """Return JSON without the keys of PERSON_KEYS, at any depth, also in texts that are JSON. What is not JSON becomes
    empty: nobody knows what it holds."""
    try:
        return _encode(_pruned(_decode(payload)))
    except _UNREADABLE:
        return b"{}"


def _pruned(value: Any) -> Any:
    if isinstance(value, str):
        return _pruned_text(value)
    if isinstance(value, dict):
        return {key: _pruned(inner) for key, inner in value.items() if not _is_person(key)}
    return [_pruned(inner) for inner in value] if isinstance(value, list) else value


def _pruned_text(text: str) -> str:
    """A text that is JSON, as Snowplow's contexts are, without the person; any other text as it is."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        value = _decode(text)
        pruned = _pruned(value)
        return text if pruned == value else _encode(pruned).decode()
    except _UNREADABLE:
        return text


def _is_person(key: str) -> bool:
    return key in _DOLLAR_KEYS or _PUNCTUATION.sub("", key).lower() in PERSON_KEYS


def client_address(peer: str, forwarded: str, is_proxy: Callable[[str], bool]) -> str:
    """Return the address of the client: the last one in X-Forwarded-For that is no proxy's, if `peer` is a proxy."""
    chain = [part.strip() for part in forwarded.split(",") if part.strip()][-16:]
    while chain and is_proxy(peer):
        peer = chain.pop()
    return peer


def proxies_of(networks: list[str]) -> Callable[[str], bool]:
    """Return a function: whether an address is in one of the networks. Raises ValueError for what is no network."""
    known = [ipaddress.ip_network(each) for each in networks]

    def is_proxy(text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in known)

    return is_proxy
