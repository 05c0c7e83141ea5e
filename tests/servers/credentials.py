"""Credentials of a service account that there is not, whose tokens a server of this machine gives.

Without any, each process that reads a bucket looks for them for half a minute before it goes on without.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


class _Tokens(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told = json.dumps({"access_token": "of-nobody", "token_type": "Bearer", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def credentials(tmp_path_factory) -> Iterator[Path]:
    """The file that GOOGLE_APPLICATION_CREDENTIALS is to name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    told = {
        "type": "service_account",
        "project_id": "demo-project",
        "client_email": "nobody@demo-project.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "token_uri": f"http://127.0.0.1:{server.server_port}/token",
    }
    file = tmp_path_factory.mktemp("credentials") / "nobody.json"
    file.write_text(json.dumps(told))
    yield file
    server.shutdown()
    server.server_close()
    thread.join()
