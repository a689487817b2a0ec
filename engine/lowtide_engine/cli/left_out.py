"""What restic has and Lowtide has not, and why: shown on the page of the commands; a test compares it with restic."""

LEFT_OUT = {
    "cache": "caches that nobody used for 30 days are always removed; the others may be deleted by hand at any time",
    "features": "there are no features to switch",
    "generate": "the pages are docs/reference/commands; completion for a shell is not made",
    "help": "`--help` of the command",
    "options": "docs/concepts/storages.md lists them",
    "--http-user-agent": "no storage is known that wants a certain one",
    "ls --ncdu": "`lowtide mount`, and ncdu on that; or restic, which reads the same repository",
    "migrate --force": "a migration that was applied is not applied again",
    "mount --path-template": "snapshots are below ids, snapshots, hosts and tags, where restic has them by default",
    "mount --time-template": "as for --path-template",
    "prune --unsafe-recover-no-free-space": "it removes all indexes before it writes new ones. "
    "`lowtide prune --max-repack-size 0` frees whole packs, and needs room for the indexes only",
    "restore --exclude-xattr": "all attributes are restored; to choose among them is not made yet",
    "restore --include-xattr": "as for --exclude-xattr",
}
"""By the command, `command --option`, or `--option` where it is one of every command."""
