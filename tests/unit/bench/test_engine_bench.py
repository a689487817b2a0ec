"""The measuring around `make bench`: what it counts, delays and prints."""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.bench.engine_bench import Overhead, Row, parsed, table
from tests.bench.latency import delayed
from tests.bench.measuring import CommandFailed, Measured, measure, size_of
from tests.bench.peers import PEERS, PINS
from tests.programs import TOOLS

MEGABYTE = 1_000_000


def test_time_memory_and_failure_of_a_command(tmp_path: Path) -> None:
    program = "data = b'x' * 200_000_000; print(len(data))"
    measured = measure([sys.executable, "-c", program], {}, folder=tmp_path, limit=60)
    assert measured.peak > 200 * MEGABYTE
    assert measured.cpu > 0
    with pytest.raises(CommandFailed, match="ended with 3: why"):
        measure(["sh", "-c", "echo why; exit 3"], {"PATH": "/bin:/usr/bin"}, folder=tmp_path, limit=60)
    with pytest.raises(CommandFailed, match="more than 0 s"):
        measure(["sleep", "60"], {"PATH": "/bin:/usr/bin"}, folder=tmp_path, limit=0.1)


def test_steps_of_several_commands_add_up() -> None:
    assert Measured(1, 2, 30) + Measured(10, 20, 3) == Measured(11, 22, 30)


def test_a_folder_is_as_large_as_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"12")
    (tmp_path / "c").write_bytes(b"345")
    assert size_of(tmp_path) == 5


def test_the_proxy_hands_on_every_byte_and_adds_its_delay_to_a_round_trip() -> None:
    sent = bytes(range(256)) * 10_000
    with socket.create_server(("127.0.0.1", 0)) as server, delayed(server.getsockname()[1], 0.2) as port:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                while piece := connection.recv(65536):
                    connection.sendall(piece)

        thread = threading.Thread(target=echo, daemon=True)
        thread.start()
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            began = time.monotonic()
            writer = threading.Thread(target=client.sendall, args=(sent,), daemon=True)
            writer.start()
            back = client.recv(65536)
            # It can only be later than that, whatever else the machine does.
            assert time.monotonic() - began >= 0.2
            while len(back) < len(sent):
                back += client.recv(65536)
        thread.join(60)
    assert back == sent


def test_the_table_compares_with_lowtide_and_tells_what_failed() -> None:
    rows = [
        Row("small", "memory", "first", "restic", Measured(4, 6, 90 * MEGABYTE), 200 * MEGABYTE),
        Row("small", "memory", "first", "lowtide", Measured(2, 3, 80 * MEGABYTE), 100 * MEGABYTE),
        Row("small", "memory", "first", "borg", None, failure="more than 600 s"),
    ]
    lines = list(table(rows, {"lowtide": Overhead(0.5, 0.25), "restic": Overhead(0.25, 0.0)}))
    assert lines[2:] == [
        "| small | memory | first | lowtide | 2.00 | 1.00 | 3.00 | 1.00 | 80 | 100 | 1.00 | 0.50 | 0.25 |",
        "| small | memory | first | restic | 4.00 | 2.00 | 6.00 | 2.00 | 90 | 200 | 2.00 | 0.25 | 0.00 |",
        "| small | memory | first | borg | more than 600 s | | | | | | | within | within |",
    ]


def test_a_peer_is_the_version_that_its_pins_say() -> None:
    pins = {"kopia": PINS / "kopia", "restic": TOOLS / "restic"}
    for name, folder in pins.items():
        assert f"github.com/{name}/{name} v{PEERS[name].version} " in (folder / "go.mod").read_text()


def test_a_part_is_chosen_by_names_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    asked = parsed(["--cases", "small,random", "--steps", "first"])
    assert (asked.cases, asked.steps, asked.storages) == (
        ["small", "random"],
        ["first"],
        ["memory", "s3", "s3+20ms"],
    )
    with pytest.raises(SystemExit):
        parsed(["--peers", "tar"])
    assert "no such: tar" in capsys.readouterr().err
