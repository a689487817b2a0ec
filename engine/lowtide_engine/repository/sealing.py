"""Sealing of the small things that Python handles: key files, config, locks, snapshots (restic-format 1.4).

Layout: IV(16) || AES-256-CTR(plaintext) || MAC(16). The MAC is Poly1305-AES (Bernstein 2005) over the ciphertext alone,
with the IV as nonce. Packs and index files are sealed by the kernel with the same key.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from lowtide_engine.errors import RepositoryDamaged

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lowtide_engine._kernel import Key as KernelKey

OVERHEAD = 32
"""Bytes that sealing adds."""

_IV = 16
_MAC = 16
_CLAMP = bytes.fromhex("ffffff0ffcffff0ffcffff0ffcffff0f")


class MacMismatch(RepositoryDamaged):
    """What was unsealed was not sealed with this key, or was changed since."""

    reason = "MacMismatch"


class MasterKey:
    """The key that seals everything in a repository: `encrypt` (32 bytes), `mac_k` (16), `mac_r` (16, clamped on
    use).

    Never printed: its repr names nothing of it. Raises RepositoryDamaged where a part has another length or is all
    zero.
    """

    __slots__ = ("_encrypt", "_mac_k", "_mac_r")

    def __init__(self, encrypt: bytes, mac_k: bytes, mac_r: bytes) -> None:
        if (len(encrypt), len(mac_k), len(mac_r)) != (32, 16, 16):
            raise RepositoryDamaged("a key has parts of the wrong length")
        if not (any(encrypt) and any(mac_k) and any(mac_r)):
            raise RepositoryDamaged("a key has a part that is all zero")
        self._encrypt = encrypt
        self._mac_k = mac_k
        self._mac_r = mac_r

    @classmethod
    def generate(cls) -> MasterKey:
        """A new random key; r is clamped as restic writes it."""
        mac_r = bytes(a & b for a, b in zip(secrets.token_bytes(16), _CLAMP, strict=True))
        return cls(secrets.token_bytes(32), secrets.token_bytes(16), mac_r)

    @classmethod
    def from_json(cls, text: bytes) -> MasterKey:
        """Read restic's form: {"mac":{"k":…,"r":…},"encrypt":…}, base64. Errors never quote the text."""
        try:
            document = json.loads(text)
            parts = (document["encrypt"], document["mac"]["k"], document["mac"]["r"])
            encrypt, mac_k, mac_r = (base64.b64decode(part, validate=True) for part in parts)
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise RepositoryDamaged("a key file holds no master key that can be read") from None
        return cls(encrypt, mac_k, mac_r)

    def to_json(self) -> bytes:
        """restic's form, keys in its order."""
        k, r, e = (base64.b64encode(part).decode() for part in (self._mac_k, self._mac_r, self._encrypt))
        return json.dumps({"mac": {"k": k, "r": r}, "encrypt": e}, separators=(",", ":")).encode()

    def seal(self, plaintext: Buffer) -> bytes:
        """`plaintext` sealed under a fresh random IV."""
        iv = secrets.token_bytes(_IV)
        while not any(iv):
            iv = secrets.token_bytes(_IV)
        encryptor = Cipher(algorithms.AES(self._encrypt), modes.CTR(iv)).encryptor()
        ciphertext = encryptor.update(memoryview(plaintext).cast("B")) + encryptor.finalize()
        return iv + ciphertext + Poly1305.generate_tag(self._mac_key(iv), ciphertext)

    def unseal(self, sealed: Buffer) -> bytes:
        """The plaintext; raises MacMismatch, before anything is decrypted, where the MAC is not right."""
        view = memoryview(sealed).cast("B")
        if len(view) < OVERHEAD:
            raise MacMismatch(f"sealed data of {len(view)} bytes is too short to be any")
        iv, ciphertext, mac = bytes(view[:_IV]), view[_IV:-_MAC], bytes(view[-_MAC:])
        if not any(iv):
            raise MacMismatch("sealed data has an IV of zeros, which nobody writes")
        try:
            Poly1305.verify_tag(self._mac_key(iv), ciphertext, mac)
        except InvalidSignature:
            raise MacMismatch("sealed data doesn't match its authentication code") from None
        decryptor = Cipher(algorithms.AES(self._encrypt), modes.CTR(iv)).decryptor()
        return decryptor.update(ciphertext) + decryptor.finalize()

    def for_kernel(self) -> KernelKey:
        """The same key for the native half."""
        from lowtide_engine._kernel import Key

        return Key(self._encrypt, self._mac_k, self._mac_r)

    def _mac_key(self, iv: bytes) -> bytes:
        # One AES block of the nonce; ECB of a single block is how Poly1305-AES is defined. Poly1305 itself clamps r, as
        # rustic's keys, which are written as they were drawn, need it.
        encryptor = Cipher(algorithms.AES(self._mac_k), modes.ECB()).encryptor()  # noqa: S305
        return self._mac_r + encryptor.update(iv) + encryptor.finalize()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MasterKey) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return "MasterKey(…)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a master key is not pickled")
