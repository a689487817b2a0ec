"""Poly1305-AES as its paper has it, and what is refused before anything is decrypted."""

from __future__ import annotations

import copy
import pickle

import pytest

from lowtide_engine import _kernel
from lowtide_engine.errors import RepositoryDamaged
from lowtide_engine.repository.sealing import OVERHEAD, MacMismatch, MasterKey

# Bernstein, "The Poly1305-AES message-authentication code" (2005), appendix B: m, k, r, n, Poly1305_r(m, AES_k(n)).
PAPER = [
    (
        "f3f6",
        "ec074c835580741701425b623235add6",
        "851fc40c3467ac0be05cc20404f3f700",
        "fb447350c4e868c52ac3275cf9d4327e",
        "f4c633c3044fc145f84f335cb81953de",
    ),
    (
        "",
        "75deaa25c09f208e1dc4ce6b5cad3fbf",
        "a0f3080000f46400d0c7e9076c834403",
        "61ee09218d29b0aaed7e154a2c5509cc",
        "dd3fab2251f11ac759f0887129cc2ee7",
    ),
    (
        "663cea190ffb83d89593f3f476b6bc24d7e679107ea26adb8caf6652d0656136",
        "6acb5f61a7176dd320c5c1eb2edcdc74",
        "48443d0bb0d21109c89a100b5ce2c208",
        "ae212a55399729595dea458bc621ff0e",
        "0ee1c16bb73f0f4fd19881753c01cdbe",
    ),
    (
        "ab0812724a7f1e342742cbed374d94d136c6b8795d45b3819830f2c04491faf0990c62e48b8018b2c3e4a0fa3134cb67fa83e158c994d961"
        "c4cb21095c1bf9",
        "e1a5668a4d5b66a5f68cc5424ed5982d",
        "12976a08c4426d0ce8a82407c4f48207",
        "9ae831e743978d3a23527c7128149e3a",
        "5154ad0d2cb26e01274fc51148491f1b",
    ),
]


@pytest.fixture
def key() -> MasterKey:
    return MasterKey.generate()


@pytest.mark.parametrize(("message", "k", "r", "nonce", "tag"), PAPER)
def test_the_papers_vectors(message: str, k: str, r: str, nonce: str, tag: str) -> None:
    """What is sealed is nonce, ciphertext, tag: with the paper's message as the ciphertext, its tag opens, and no
    other does.
    """
    key = MasterKey(b"e" * 32, bytes.fromhex(k), bytes.fromhex(r))
    sealed = bytes.fromhex(nonce + message + tag)
    assert len(key.unseal(sealed)) == len(sealed) - OVERHEAD
    with pytest.raises(MacMismatch):
        key.unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]))


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 1000, 70_000])
def test_what_is_sealed_unseals_here_and_in_the_kernel(key: MasterKey, length: int) -> None:
    text = bytes(n % 251 for n in range(length))
    sealed = key.seal(text)
    assert len(sealed) == length + OVERHEAD
    assert key.unseal(sealed) == text
    assert key.unseal(memoryview(bytearray(sealed))) == text
    assert key.for_kernel().unseal(sealed) == text
    assert key.unseal(key.for_kernel().seal(text)) == text


def test_no_two_seals_share_an_iv(key: MasterKey) -> None:
    ivs = {key.seal(b"the same")[:16] for _ in range(200)}
    assert len(ivs) == 200
    assert bytes(16) not in ivs


def test_every_changed_bit_is_noticed(key: MasterKey) -> None:
    sealed = key.seal(b"x" * 20)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x10
        with pytest.raises(MacMismatch):
            key.unseal(changed)


@pytest.mark.parametrize("length", [0, 1, 31])
def test_too_short_is_no_sealed_text(key: MasterKey, length: int) -> None:
    with pytest.raises(MacMismatch, match="too short"):
        key.unseal(bytes(length))


def test_an_iv_of_zeros_is_refused_although_its_mac_is_right() -> None:
    key = MasterKey(b"e" * 32, b"k" * 16, b"r" * 16)
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    iv = bytes(16)
    with pytest.raises(MacMismatch, match="zeros"):
        key.unseal(iv + b"text" + Poly1305.generate_tag(key._mac_key(iv), b"text"))


def test_r_is_clamped_on_use_so_that_rustics_keys_work(key: MasterKey) -> None:
    unclamped = MasterKey(b"e" * 32, b"k" * 16, b"\xff" * 16)
    clamped = MasterKey(b"e" * 32, b"k" * 16, bytes.fromhex("ffffff0ffcffff0ffcffff0ffcffff0f"))
    assert clamped.unseal(unclamped.seal(b"text")) == b"text"
    assert unclamped.for_kernel().unseal(clamped.seal(b"text")) == b"text"


def test_another_key_opens_nothing(key: MasterKey) -> None:
    with pytest.raises(MacMismatch):
        MasterKey.generate().unseal(key.seal(b"text"))


def test_the_json_is_restics(key: MasterKey) -> None:
    text = MasterKey(b"e" * 32, b"k" * 16, b"r" * 16).to_json()
    assert text == (
        b'{"mac":{"k":"a2tra2tra2tra2tra2traw==","r":"cnJycnJycnJycnJycnJycg=="},'
        b'"encrypt":"ZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWU="}'
    )
    assert MasterKey.from_json(key.to_json()) == key


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"mac":{"k":1,"r":2},"encrypt":3}',
        b'{"mac":{"k":"a","r":"b"},"encrypt":"c"}',
        MasterKey(b"e" * 32, b"k" * 16, b"r" * 16).to_json().replace(b"ZWVl", b"", 1),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: bytes) -> None:
    with pytest.raises(RepositoryDamaged) as caught:
        MasterKey.from_json(text)
    assert "ZWVl" not in str(caught.value)


@pytest.mark.parametrize(
    ("encrypt", "k", "r"),
    [
        (bytes(32), b"k" * 16, b"r" * 16),
        (b"e" * 32, bytes(16), b"r" * 16),
        (b"e" * 32, b"k" * 16, bytes(16)),
        (b"e" * 31, b"k" * 16, b"r" * 16),
        (b"e" * 32, b"k" * 17, b"r" * 16),
    ],
)
def test_keys_of_zeros_or_of_another_length_are_none(encrypt: bytes, k: bytes, r: bytes) -> None:
    with pytest.raises(RepositoryDamaged):
        MasterKey(encrypt, k, r)


def test_a_key_is_never_shown(key: MasterKey) -> None:
    assert repr(key) == str(key) == "MasterKey(…)"
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.copy(key)


def test_the_kernel_hashes_as_everybody_does() -> None:
    assert _kernel.sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
