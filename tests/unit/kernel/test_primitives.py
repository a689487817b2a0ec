"""The small functions of the kernel as Python calls them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide_engine import _kernel as kernel

POLYNOMIAL = 0x3DA3358B4DC173


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_taken(kind: type) -> None:
    key = kernel.Key(kind(b"1" * 32), kind(b"2" * 16), kind(b"3" * 16))
    assert key.unseal(kind(key.seal(kind(b"text")))) == b"text"
    assert kernel.sha256(kind(b"text")) == hashlib.sha256(b"text").hexdigest()
    assert kernel.zstd_decompress(kind(kernel.zstd_compress(kind(b"text"))), 4) == b"text"


@settings(deadline=None, max_examples=50)
@given(
    password=st.binary(max_size=80),
    salt=st.binary(max_size=80),
    log_n=st.integers(1, 10),
    r=st.integers(1, 17),
    p=st.integers(1, 5),
)
def test_scrypt_is_that_of_openssl(password: bytes, salt: bytes, log_n: int, r: int, p: int) -> None:
    n = 2**log_n
    derived = hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, dklen=64, maxmem=1 << 28)
    assert kernel.scrypt(password, salt, n, r, p) == derived


@pytest.mark.parametrize(("n", "r", "p"), [(0, 8, 1), (1023, 8, 1), (1024, 0, 1), (1024, 8, 0), (2**62, 8, 1)])
def test_scrypt_that_there_is_not_is_refused(n: int, r: int, p: int) -> None:
    with pytest.raises(kernel.KernelError, match=f"no scrypt with N={n}, r={r}, p={p}"):
        kernel.scrypt(b"password", b"salt", n, r, p)


def test_scrypt_without_memory_is_an_error_and_not_the_end() -> None:
    program = """
import resource
from lowtide_engine import _kernel
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20),) * 2)
try:
    _kernel.scrypt(b"password", b"salt", 131072, 8, 1)
except _kernel.KernelError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "there are no 128 MiB of memory for scrypt\n"


def test_decompression_stops_at_its_limit() -> None:
    bomb = kernel.zstd_compress(bytes(1 << 24))
    with pytest.raises(kernel.KernelError, match="holds more than the 65536 bytes"):
        kernel.zstd_decompress(bomb, 1 << 16)


def test_polynomials() -> None:
    assert kernel.is_irreducible(POLYNOMIAL)
    assert not kernel.is_irreducible(POLYNOMIAL ^ 1)
    random = kernel.random_polynomial()
    assert random.bit_length() == 54
    assert kernel.is_irreducible(random)


def test_zeros_are_cut_at_the_minimum_size() -> None:
    zeros = bytes(4 * 512 * 1024)
    assert kernel.chunk_lengths(zeros, POLYNOMIAL) == [512 * 1024] * 4
    with pytest.raises(kernel.KernelError, match="irreducible"):
        kernel.chunk_lengths(zeros, POLYNOMIAL ^ 1)


def test_blobs_are_checked_where_they_lie() -> None:
    key = kernel.Key(b"1" * 32, b"2" * 16, b"3" * 16)
    plain = [b"raw", b"packed" * 1000, b"damaged", b"of another id", b"of another length" * 100]
    raw = {0, 2, 3}
    sealed = [key.seal(part if i in raw else kernel.zstd_compress(part)) for i, part in enumerate(plain)]
    offsets = [sum(map(len, sealed[:i])) for i in range(len(sealed) + 1)]
    data = bytearray(b"".join(sealed))
    data[offsets[2] + 20] ^= 1
    ids = [kernel.sha256(part) for part in plain]
    ids[3] = ids[0]
    lengths = [0 if i in raw else len(part) for i, part in enumerate(plain)]
    lengths[4] += 1
    places = [(offsets[i], len(sealed[i]), lengths[i], ids[i]) for i in range(len(plain))]
    beyond = (len(data) - 10, 50, 0, ids[0])
    far = (2**63, 2**63, 0, ids[0])
    assert kernel.check_blobs(key, data, [*places, beyond, far]) == [True, True, *[False] * 5]
    assert kernel.check_blobs(key, data, []) == []


def test_what_is_no_id_or_kind_is_refused() -> None:
    index = kernel.Index()
    with pytest.raises(kernel.KernelError, match="64 hexadecimal digits"):
        index.contains("data", "07")
    with pytest.raises(kernel.KernelError, match="data or tree"):
        index.contains("blob", "0" * 64)  # type: ignore[arg-type]
    with pytest.raises(kernel.KernelError, match="does not know pack"):
        index.pack_size("0" * 64)


def test_a_damaged_index_file_is_named_and_adds_nothing() -> None:
    index = kernel.Index()
    pack, blob = "1" * 64, "2" * 64
    good = {"id": blob, "type": "data", "offset": 0, "length": 40}
    bad = good | {"length": 3}
    with pytest.raises(kernel.KernelError, match="f" * 64):
        index.add("f" * 64, json.dumps({"packs": [{"id": pack, "blobs": [good, bad]}]}).encode())
    assert len(index) == 0
    index.add("f" * 64, json.dumps({"packs": [{"id": pack, "blobs": [good]}]}).encode())
    assert index.index_files_of(pack) == ["f" * 64]
    assert index.pack_entries(pack)[0].uncompressed_length == 0
