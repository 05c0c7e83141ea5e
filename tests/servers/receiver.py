"""Receivers on loopback that keep what they are sent: of webhooks, and of mail over SMTP with STARTTLS."""

import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Received(NamedTuple):
    """A request; names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers POST with the statuses it is given, then with 204, or with 200 and `answer`; `got` is what it was sent.

    before_answer  called with the number of the request before it is answered
    """

    def __init__(self, *statuses: int):
        self.got: list[Received] = []
        self.statuses = list(statuses)
        self.answer = b""
        self.before_answer: Callable[[int], object] | None = None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Received(self.path, headers, body))
                if receiver.before_answer is not None:
                    receiver.before_answer(len(receiver.got))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200 if receiver.answer else 204)
                self.send_header("Content-Length", str(len(receiver.answer)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(receiver.answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    @property
    def ids(self) -> list[str]:
        """The ids of what it was sent, in order."""
        return [each.headers["webhook-id"] for each in self.got]


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    """A receiver that runs."""
    made = Receiver(*statuses)
    with _running(made.server):
        yield made


class Mail(NamedTuple):
    """A message as it came: whether the connection was encrypted, the addresses of its envelope, its text."""

    encrypted: bool
    sender: str
    to: list[str]
    text: str


class MailServer:
    """Takes mail, only over TLS where it has a certificate; `answers` are codes for RCPT, then 250."""

    def __init__(self, folder: Path, tls: bool):
        self.got: list[Mail] = []
        self.answers: list[int] = []
        self.certificate = _certificate(folder)
        mail = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self.encrypted, sender, to = False, "", []
                self._say("220 here")
                while line := self.rfile.readline():
                    word = line.split(b":")[0].split()[0].upper()
                    if word in (b"EHLO", b"HELO"):
                        self._say("250-here", "250 STARTTLS" if tls and not self.encrypted else "250 SIZE")
                    elif word == b"STARTTLS":
                        if not self._encrypt():
                            return
                    elif tls and not self.encrypted:
                        self._say("530 STARTTLS first")
                    elif word == b"MAIL":
                        sender = line.split(b"<")[1].split(b">")[0].decode()
                        self._say("250 yes")
                    elif word == b"RCPT":
                        code = mail.answers.pop(0) if mail.answers else 250
                        to += [line.split(b"<")[1].split(b">")[0].decode()] if code == 250 else []
                        self._say(f"{code} so")
                    elif word == b"DATA":
                        self._say("354 go on")
                        lines = list(iter(self.rfile.readline, b".\r\n"))
                        mail.got.append(Mail(self.encrypted, sender, to, b"".join(lines).decode()))
                        self._say("250 taken")
                    else:
                        self._say("221 bye" if word == b"QUIT" else "250 yes")

            def _say(self, *lines):
                self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

            def finish(self):
                super().finish()
                self.request.close()

            def _encrypt(self) -> bool:
                """Whether the client trusts the certificate."""
                self._say("220 go on")
                self.rfile.close()
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(mail.certificate)
                try:
                    self.request = context.wrap_socket(self.request, server_side=True)
                except ssl.SSLError:
                    return False
                self.setup()
                self.encrypted = True
                return True

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]


@contextmanager
def taking_mail(folder: Path, tls: bool = True) -> Iterator[MailServer]:
    """A mail server for `localhost` that runs, with a certificate in the folder."""
    made = MailServer(folder, tls)
    with _running(made.server):
        yield made


def _certificate(folder: Path) -> Path:
    """A key and a certificate of `localhost`, signed by itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, encipher_only=False, decipher_only=False, **usage
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "localhost.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def _running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
