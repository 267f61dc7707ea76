"""Keys and tokens of the development stack: who signs, and what a customer's token says. Never for production.

As a program: make the pair below the given folder.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ISSUER, AUDIENCE = "headrace-dev", "headrace"
SCOPE = "orders:read orders:write"
VALID_S = 24 * 3600


def private_key_file(run_dir: Path) -> Path:
    return run_dir / "keys" / "private.pem"


def public_key_file(run_dir: Path) -> Path:
    return run_dir / "keys" / "public.pem"


def ensure_keys(run_dir: Path) -> None:
    """An Ed25519 pair; kept from one start to the next, so that a token stays good."""
    private = private_key_file(run_dir)
    if private.exists() and public_key_file(run_dir).exists():
        return
    private.parent.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    private.unlink(missing_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    public_key_file(run_dir).write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def token(run_dir: Path, customer: str) -> str:
    """A token that lets this customer read and place orders for a day."""
    now = int(time.time())
    claims = {
        "sub": customer,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now,
        "exp": now + VALID_S,
        "scope": SCOPE,
    }
    return jwt.encode(claims, private_key_file(run_dir).read_bytes(), algorithm="EdDSA")


if __name__ == "__main__":
    ensure_keys(Path(sys.argv[1]))
