"""restic's forms of an SFTP location, and what says whom to trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowtide_engine.errors import BadInput
from lowtide_engine.storage.sftp_location import SftpLocation, SshTrust


@pytest.mark.parametrize(
    ("location", "user", "host", "port", "path", "printed"),
    [
        ("sftp:u@h:/srv/repo", "u", "h", 0, "/srv/repo", "sftp:u@h:/srv/repo"),
        ("sftp:h:repo/", "", "h", 0, "repo", "sftp:h:repo"),
        ("sftp:u@dom.ain@h:/srv//repo/./x", "u@dom.ain", "h", 0, "/srv/repo/x", "sftp:u@dom.ain@h:/srv/repo/x"),
        ("sftp://u@h:2222//srv/repo", "u", "h", 2222, "/srv/repo", "sftp://u@h:2222//srv/repo"),
        ("sftp://u@h/below/home", "u", "h", 0, "below/home", "sftp:u@h:below/home"),
        ("sftp://u@[::1]:2222//srv", "u", "::1", 2222, "/srv", "sftp://u@[::1]:2222//srv"),
        ("sftp://h//srv/a%20b", "", "h", 0, "/srv/a b", "sftp:h:/srv/a b"),
    ],
)
def test_restics_forms_of_a_location(location: str, user: str, host: str, port: int, path: str, printed: str) -> None:
    parsed = SftpLocation.parse(location)
    assert (parsed.user, parsed.host, parsed.port, parsed.path) == (user, host, port, path)
    assert str(parsed) == printed
    assert SftpLocation.parse(printed) == parsed
    assert parsed.below("data/ab") == f"{path}/data/ab"


@pytest.mark.parametrize(
    "location",
    [
        *("sftp:", "sftp:h", "sftp:h:", "sftp::/srv", "sftp:@h:/srv", "sftp://h", "sftp://h/", "sftp:///srv"),
        *("sftp://u@h:port//srv", "sftp:-oProxyCommand=x:/srv", "sftp:h:/"),
        *("sftp://u:s3cret@h//srv", "sftp:u:s3cret@h:/srv", "sftp:u s3cret@h:/srv"),
    ],
)
def test_a_location_that_lacks_something_is_refused_and_not_repeated(location: str) -> None:
    with pytest.raises(BadInput, match="sftp:user@host:/path") as caught:
        SftpLocation.parse(location)
    assert "s3cret" not in str(caught.value)


def test_options_come_before_the_environment_and_files_must_be_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("x")
    environment = {"LOWTIDE_SFTP_IDENTITY": str(tmp_path / "a"), "LOWTIDE_SFTP_KNOWN_HOSTS": str(tmp_path / "a")}
    trust = SshTrust.of({"identity": str(tmp_path / "b")}, environment)
    assert (trust.identity, trust.known_hosts, trust.fingerprint) == (tmp_path / "b", tmp_path / "a", "")
    with pytest.raises(BadInput, match=r"known hosts file .* not there"):
        SshTrust.of({"known-hosts": str(tmp_path / "none")}, {})


@pytest.mark.parametrize("fingerprint", ["MD5:aa:bb", "SHA256:short", "A" * 43, "SHA256:" + "!" * 43])
def test_a_fingerprint_is_as_ssh_prints_it(fingerprint: str) -> None:
    with pytest.raises(BadInput, match="ssh-keygen -l"):
        SshTrust.of({"fingerprint": fingerprint}, {})
