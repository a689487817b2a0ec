"""The options that every command has, restic's names and environment variables, and what they add up to.

restic takes its global options before and after the command; so they are parameters of the root and of every command,
and each value given anywhere lands in one dictionary of the root context. `settings(ctx)` reads that and the
environment once, at the rim.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import click

from lowtide_engine.cli.values import DURATION

Compression = Literal["auto", "off", "fastest", "better", "max"]
COMPRESSION_MODES: tuple[Compression, ...] = get_args(Compression)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the global options and the environment say. Sizes in bytes, durations in seconds, rates in KiB/s."""

    repository: str = ""
    repository_file: str = ""
    password_file: str = ""
    password_command: str = ""
    insecure_no_password: bool = False
    key_hint: str = ""
    cacert: str = ""
    tls_client_cert: str = ""
    insecure_tls: bool = False
    limit_upload: int = 0
    limit_download: int = 0
    stuck_request_timeout: float = 0.0
    cache_dir: str = ""
    no_cache: bool = False
    no_lock: bool = False
    retry_lock: float = 0.0
    dead_holder: Sequence[str] = ()
    expect_repository: str = ""
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    compression: Compression = "auto"
    pack_size: int = 16 * 1024 * 1024
    no_extra_verify: bool = False
    option: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)


def _remember(ctx: click.Context, param: click.Option, value: Any) -> Any:
    given: dict[str, Any] = ctx.find_root().meta.setdefault("lowtide.given", {})
    if value is None or value == () or param.name is None:
        return value
    if param.multiple:
        value = (*given.get(param.name, ()), *value)
    elif param.name == "verbose":
        value = given.get("verbose", 0) + value
    elif value is False and param.name in given:
        return value
    given[param.name] = value
    return value


def _option(*names: str, **attributes: Any) -> click.Option:
    return click.Option(list(names), expose_value=False, callback=_remember, **attributes)


def global_parameters() -> list[click.Parameter]:
    """Fresh parameters, to be put on one command."""
    return [
        _option(
            "-r", "--repo", "repository", metavar="PLACE", help="Where the repository is (default: $RESTIC_REPOSITORY)."
        ),
        _option(
            "--repository-file",
            metavar="FILE",
            help="File that says where the repository is (default: $RESTIC_REPOSITORY_FILE).",
        ),
        _option(
            "-p", "--password-file", metavar="FILE", help="File with the password (default: $RESTIC_PASSWORD_FILE)."
        ),
        _option(
            "--password-command",
            metavar="COMMAND",
            help="Command that prints the password (default: $RESTIC_PASSWORD_COMMAND).",
        ),
        _option(
            "--insecure-no-password",
            is_flag=True,
            help="The repository's password is empty: whoever has the repository reads it.",
        ),
        _option("--key-hint", metavar="ID", help="Key to try first (default: $RESTIC_KEY_HINT)."),
        _option("--cacert", metavar="FILE", help="Certificates to trust, PEM (default: $RESTIC_CACERT)."),
        _option(
            "--tls-client-cert",
            metavar="PATH",
            help="Our TLS certificate: a PEM file with its key, or a folder with tls.crt and tls.key"
            " (default: $RESTIC_TLS_CLIENT_CERT).",
        ),
        _option("--insecure-tls", is_flag=True, help="Do not verify the server's certificate."),
        _option(
            "--limit-upload",
            type=click.IntRange(min=0),
            metavar="KIB/S",
            help="Send no more than this, in KiB/s (default: 0, no limit).",
        ),
        _option(
            "--limit-download",
            type=click.IntRange(min=0),
            metavar="KIB/S",
            help="Fetch no more than this, in KiB/s (default: 0, no limit).",
        ),
        _option(
            "--stuck-request-timeout",
            type=DURATION,
            metavar="DURATION",
            help="Give up and repeat a request on which nothing moves for so long (default: 2m).",
        ),
        _option(
            "--cache-dir",
            metavar="FOLDER",
            help="Where the cache is (default: $RESTIC_CACHE_DIR, else the user's cache folder).",
        ),
        _option("--no-cache", is_flag=True, help="Use no cache."),
        _option(
            "--cleanup-cache",
            is_flag=True,
            help="Changes nothing: caches that nobody used for 30 days are always removed.",
        ),
        _option(
            "--no-lock",
            is_flag=True,
            help="Take no lock where a command only reads: for repositories that can't be written.",
        ),
        _option(
            "--retry-lock",
            type=DURATION,
            metavar="DURATION",
            help="How long to wait for a lock, like 5m (default: not at all).",
        ),
        _option(
            "--dead-holder",
            multiple=True,
            metavar="NAME",
            help="A lock holder that is known to be dead: its locks are removed first; can be given several times.",
        ),
        _option(
            "--expect-repository",
            metavar="ID",
            help="Refuse a repository that has another id, before anything is written.",
        ),
        _option("--json", is_flag=True, help="Print JSON, as restic does."),
        _option("-q", "--quiet", is_flag=True, help="Print no progress and no summary."),
        _option("-v", "--verbose", count=True, default=None, help="Say more; -vv names every file (also --verbose=2)."),
        _option(
            "--compression",
            type=click.Choice(COMPRESSION_MODES),
            help="How hard to compress (default: $RESTIC_COMPRESSION, else auto).",
        ),
        _option(
            "--pack-size",
            type=int,
            metavar="MIB",
            help="Size of packs, 4 to 128 (default: $RESTIC_PACK_SIZE, else 16).",
        ),
        _option("--no-extra-verify", is_flag=True, help="Do not unseal and hash again what is about to be uploaded."),
        _option(
            "-o",
            "--option",
            multiple=True,
            metavar="KEY=VALUE",
            help="Option of a storage, like s3.region=eu-central-1.",
        ),
    ]


GLOBAL_OPTIONS = frozenset(p.name for p in global_parameters())


class Command(click.Command):
    """A command that takes the global options as well."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        attributes["params"] = [*(attributes.get("params") or ()), *global_parameters()]
        super().__init__(*args, **attributes)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        params = self.get_params(ctx)
        write_option_section(ctx, formatter, "Options", [p for p in params if p.name not in GLOBAL_OPTIONS])
        write_option_section(ctx, formatter, "Global options", [p for p in params if p.name in GLOBAL_OPTIONS])


def write_option_section(
    ctx: click.Context, formatter: click.HelpFormatter, title: str, params: Sequence[click.Parameter]
) -> None:
    records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
    if records:
        with formatter.section(title):
            formatter.write_dl(records)


def settings(ctx: click.Context) -> Settings:
    """What was given by options, else by the environment, else the defaults. UsageError for a bad value.

    Called once: the environment's secrets are taken out of the process's own then, which those commands inherit that
    boto3 (credential_process) and asyncssh (ProxyCommand) start.
    """
    from lowtide_engine.repository.password import scrubbed

    given: dict[str, Any] = ctx.find_root().meta.get("lowtide.given", {})
    environment = dict(os.environ)
    for name in environment.keys() - scrubbed(environment).keys():
        del os.environ[name]

    def text(name: str, variable: str) -> str:
        return given.get(name) or environment.get(variable, "")

    mode = text("compression", "RESTIC_COMPRESSION") or "auto"
    if mode not in COMPRESSION_MODES:
        raise click.UsageError(f"RESTIC_COMPRESSION is {mode!r}; it may be one of {', '.join(COMPRESSION_MODES)}")
    return Settings(
        repository=_only_option_or_variable(given, environment),
        repository_file="" if given.get("repository") else text("repository_file", "RESTIC_REPOSITORY_FILE"),
        password_file=text("password_file", "RESTIC_PASSWORD_FILE"),
        password_command=text("password_command", "RESTIC_PASSWORD_COMMAND"),
        insecure_no_password=given.get("insecure_no_password", False),
        key_hint=text("key_hint", "RESTIC_KEY_HINT"),
        cacert=text("cacert", "RESTIC_CACERT"),
        tls_client_cert=text("tls_client_cert", "RESTIC_TLS_CLIENT_CERT"),
        insecure_tls=given.get("insecure_tls", False),
        limit_upload=given.get("limit_upload", 0),
        limit_download=given.get("limit_download", 0),
        stuck_request_timeout=given.get("stuck_request_timeout", 0.0),
        cache_dir=text("cache_dir", "RESTIC_CACHE_DIR"),
        no_cache=given.get("no_cache", False),
        no_lock=given.get("no_lock", False),
        retry_lock=given.get("retry_lock", 0.0),
        dead_holder=given.get("dead_holder", ()),
        expect_repository=given.get("expect_repository", ""),
        json=given.get("json", False),
        quiet=given.get("quiet", False),
        verbose=given.get("verbose", 0),
        compression=mode,
        pack_size=_pack_size(given.get("pack_size"), environment.get("RESTIC_PACK_SIZE", "")),
        no_extra_verify=given.get("no_extra_verify", False),
        option=given.get("option", ()),
        environment=environment,
    )


def _only_option_or_variable(given: dict[str, Any], environment: dict[str, str]) -> str:
    if given.get("repository"):
        return str(given["repository"])
    return "" if given.get("repository_file") else environment.get("RESTIC_REPOSITORY", "")


def _pack_size(given: int | None, variable: str) -> int:
    try:
        mebibytes = given if given is not None else int(variable or 16)
    except ValueError as error:
        raise click.UsageError(f"RESTIC_PACK_SIZE is {variable!r}; it must be a number of MiB") from error
    if not 4 <= mebibytes <= 128:
        raise click.UsageError(
            f"a pack size of {mebibytes} MiB is refused: restic reads and writes packs of 4 to 128 MiB"
        )
    return mebibytes * 1024 * 1024
