"""The native data plane: files into packs, packs into files.

Every call releases the interpreter's lock while it works. Ids are 64 lower-case hex digits. Paths and names are bytes, as the
kernel of the operating system has them. Network, storage, config, key files, locks and snapshots are Python's; the kernel asks for
pieces of packs by `Fetch` events and hands out finished packs by `PackReady` events (design: the engine's surface is one call for a
whole backup, not one per file).
"""

from collections.abc import Sequence
from typing import Literal, final

from typing_extensions import Buffer

BlobKind = Literal["data", "tree"]

class KernelError(Exception):
    """A failure of the kernel that ends the whole run: damaged data, a bad argument, a thread that died."""

@final
class Key:
    """The repository's master key (restic: AES-256-CTR with Poly1305-AES)."""

    def __init__(self, encrypt: bytes, mac_k: bytes, mac_r: bytes) -> None: ...
    def seal(self, plaintext: Buffer) -> bytes: ...
    def unseal(self, sealed: Buffer) -> bytes: ...

def scrypt(password: Buffer, salt: Buffer, n: int, r: int, p: int) -> bytes:
    """What scrypt (RFC 7914) makes of a password: 64 bytes, in 128·r·(n + p) bytes of memory. KernelError where the
    parameters are none, or there is no such memory."""

def sha256(data: Buffer) -> str: ...
def zstd_compress(data: Buffer, level: int = 3) -> bytes: ...
def zstd_decompress(data: Buffer, limit: int) -> bytes:
    """Decompress one frame as a stream; raises KernelError where it would exceed `limit` bytes."""

def random_polynomial() -> int: ...
def is_irreducible(polynomial: int) -> bool: ...
def chunk_lengths(data: Buffer, polynomial: int) -> list[int]:
    """The lengths that restic's chunker cuts `data` into."""

def open_blob(key: Key, sealed: Buffer, blob_id: str, uncompressed_length: int) -> bytes:
    """Unseal, decompress (if `uncompressed_length` is not 0) and check one blob against its id."""

def check_blobs(key: Key, data: Buffer, blobs: Sequence[tuple[int, int, int, str]]) -> list[bool]:
    """Whether each of these pieces of `data` (offset, length, uncompressed length or 0, id) is a blob that opens to what
    its id says."""

@final
class Location:
    """Where a blob is stored; `length` is the sealed length, `uncompressed_length` is 0 for a blob stored raw."""

    pack: str
    offset: int
    length: int
    uncompressed_length: int

@final
class PackEntry:
    kind: BlobKind
    blob: str
    offset: int
    length: int
    uncompressed_length: int

def read_pack_header(key: Key, sealed_header: Buffer) -> list[PackEntry]:
    """Decode a sealed pack header (without its 4 length bytes), offsets by summation; KernelError where damaged."""

@final
class Index:
    """The union of all index files, in memory. Safe to share between runs; a run adds what it stores."""

    def __init__(self) -> None: ...
    def add(self, index_id: str, index_json: Buffer) -> None:
        """Take in the plaintext JSON of one index file (restic-format 1.7)."""
    def __len__(self) -> int: ...
    def contains(self, kind: BlobKind, blob: str) -> bool: ...
    def locate(self, kind: BlobKind, blob: str) -> list[Location]: ...
    def packs(self) -> list[str]: ...
    def pack_size(self, pack: str) -> int:
        """The size in bytes that the pack's file must have by what the index says."""
    def pack_entries(self, pack: str) -> list[PackEntry]: ...
    def index_files_of(self, pack: str) -> list[str]: ...
    def has_tree_blobs(self, pack: str) -> bool: ...

def verify_pack(key: Key, index: Index, pack: str, data: Buffer) -> list[str]:
    """What is wrong with a whole pack, one sentence each; empty where name, header, index and every blob agree."""

@final
class Node:
    """One decoded node of a tree. `linktarget` are raw bytes; times are (seconds, nanoseconds) since the epoch."""

    name: bytes
    type: str
    mode: int
    permissions: int
    mtime: tuple[int, int]
    atime: tuple[int, int]
    ctime: tuple[int, int]
    uid: int
    gid: int
    user: str
    group: str
    inode: int
    device_id: int
    size: int
    links: int
    linktarget: bytes
    extended_attributes: list[tuple[str, bytes]]
    device: int
    content: list[str] | None
    subtree: str | None
    generic_attributes: str
    """The JSON of restic's `generic_attributes` (what Windows has), or empty."""
    error: str

def decode_tree(tree: Buffer) -> list[Node]:
    """Decode the bytes of a tree blob; KernelError where it isn't one. Names and their order are not checked: restore does."""

def encode_tree(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Build a tree from (name, raw node JSON) pairs; KernelError where the names do not ascend strictly."""

def reencode_tree(tree: Buffer) -> bytes:
    """The tree as this kernel writes it: the same bytes where restic wrote it. What it doesn't know is lost, so compare."""

@final
class Patterns:
    """Include or exclude patterns with restic's meaning (`**`, `!`, anchored by a leading slash).

    KernelError where one is malformed."""

    def __init__(self, patterns: Sequence[bytes], *, ignore_case: bool = False) -> None: ...
    def __len__(self) -> int: ...
    def matches(self, path: bytes) -> bool:
        """Whether the list, as one of excludes, rejects `path`."""
    def verdict(self, path: bytes) -> tuple[bool, bool]:
        """As a list of includes: whether `path` matches, and whether something below it may."""

@final
class PackReady:
    """A finished pack. `data` is a buffer that the kernel takes back when the last reference to it goes, or by `release`."""

    pack: str
    kind: BlobKind
    data: Buffer

    def release(self) -> bool:
        """The bytes are needed no longer: the kernel may use as much memory again, even where somebody still holds `data`.

        False where there are views of it, so that the memory itself goes with the last of them.
        """

@final
class IndexReady:
    """Plaintext JSON of an index file, and the packs that it names, which are all stored. Answer with
    `index_stored(ticket)`.
    """

    ticket: int
    packs: list[str]
    json: bytes

@final
class Fetch:
    """Piece of a pack that a run needs. Answer with `provide(ticket, data)` or `refuse(ticket, why)`."""

    ticket: int
    pack: str
    offset: int
    length: int
    kind: BlobKind

@final
class ItemError:
    """One file or folder that could not be read or written; the run goes on."""

    path: bytes
    during: str
    message: str
    notice: bool
    """True where it is no failure (gone between listing and lstat, a socket that was skipped)."""

@final
class ItemDone:
    """Only where asked for by `verbose`: what was done with one item."""

    path: bytes
    action: str
    size: int

@final
class Problem:
    """Damage found by a check: `kind` is a CamelCase word, `message` a sentence that names the blob, tree or pack."""

    kind: str
    message: str

@final
class Finished:
    """The end of a run. `root` is the root tree's id of a backup (every pack and index acknowledged), else empty."""

    root: str
    summary: dict[str, int]

Event = PackReady | IndexReady | Fetch | ItemError | ItemDone | Problem | Finished

@final
class Progress:
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    errors: int
    steps: int
    """Changes whenever something was done, also where no other number shows it."""
    scan_finished: bool
    current: list[bytes]

class Run:
    """One running job of the kernel. `next` gives the events; whoever drives it answers each."""

    def next(self, timeout: float) -> Event | None:
        """The next event, or None after `timeout` seconds. Raises KernelError where a thread ended or the run was cancelled."""
    def provide(self, ticket: int, data: Buffer) -> None: ...
    def refuse(self, ticket: int, why: str) -> None: ...
    def cancel(self) -> None:
        """Stop all threads soon; `next` then raises KernelError. Idempotent."""
    def progress(self) -> Progress: ...

@final
class Backup(Run):
    """Walk, read, cut, deduplicate, compress, seal and pack.

    A blob is absent, pending or stored: `pack_stored` says that the storage's save returned. Summary keys: files_new,
    files_changed, files_unmodified, dirs_new, dirs_changed, dirs_unmodified, data_blobs, tree_blobs, data_added,
    data_added_packed, total_files_processed, total_bytes_processed, errors.

    `stream`, in the place of targets, is one file that is read from a descriptor to its end: its path in the snapshot, the
    descriptor (the kernel takes a copy), and the time in seconds and nanoseconds that it and the folders above it get. A read that
    fails ends the run; whether the stream was whole is for the caller to know, before a snapshot is made of the root.

    `uploads` is how many packs of data may wait to be stored at a time; each takes a pack's size of memory, beside two that are open.
    """

    def __init__(
        self,
        key: Key,
        index: Index,
        *,
        polynomial: int,
        version: int,
        targets: Sequence[bytes],
        stream: tuple[bytes, int, tuple[int, int]] | None = None,
        parent: str | None = None,
        excludes: Sequence[bytes] = (),
        iexcludes: Sequence[bytes] = (),
        exclude_if_present: Sequence[tuple[bytes, bytes]] = (),
        exclude_caches: bool = False,
        exclude_larger_than: int = 0,
        one_file_system: bool = False,
        force: bool = False,
        ignore_inode: bool = False,
        ignore_ctime: bool = False,
        with_atime: bool = False,
        omit_names: bool = False,
        compression: Literal["auto", "off", "fastest", "better", "max"] = "auto",
        pack_size: int = 16 * 1024 * 1024,
        verify: bool = True,
        dry_run: bool = False,
        verbose: bool = False,
        readers: int = 2,
        uploads: int = 2,
        index_packs: int = 32,
        index_seconds: float = 120.0,
    ) -> None: ...
    def pack_stored(self, pack: str) -> None: ...
    def index_stored(self, ticket: int) -> None: ...
    def flush_index(self) -> None:
        """Emit an index of all acknowledged packs at once (SIGTERM); events go on until `cancel`."""
    def unindexed_packs(self) -> int:
        """How many acknowledged packs no acknowledged index names yet: 0 once all of `flush_index` is done."""

@final
class Restore(Run):
    """Write a tree into a folder, which is made (0700) where it is missing.

    `subfolder` is the folder of the snapshot whose content goes into `target`; a missing one ends the run. Patterns see paths
    below it, with a leading slash; with includes and excludes, a path must be included and not excluded. Paths in events are
    those on this machine.

    `device`, the descriptor of a block device that is open for reading and writing, takes the place of the folder: `subfolder`
    is then a file, what it holds is written over the device where that differs, `delete` makes zeros of what lies behind it, and
    `target` is what the device is called in events. No metadata is set, and patterns and `overwrite` mean nothing. A device that
    is too small is an ItemError during "write", before anything is written.

    `overwrite`: "always" compares what is there blob by blob and writes what differs; "if-changed" takes a file with the same
    size and mtime for unchanged (metadata is put right all the same); "if-newer" leaves what is as new or newer, "never" all that
    is there. A folder's metadata is always restored, that of the target itself only with `root_metadata` (the node that the
    snapshot has for `subfolder`).

    `delete` removes what the snapshot doesn't have and the patterns select, after all data is on the disk; it is switched off,
    and that is an ItemError during "delete", by a refused name, an unreadable tree, or anything whose data could not be restored.
    A folder that is in a file's way and not empty fails without `delete`.

    An owner or attribute that can't be set is an ItemError (during "owner", "xattr"), also for an unprivileged caller,
    whom restic doesn't tell; who accepts that passes `owner=False`. It is a notice where the file system can't hold the
    attribute, and for labels that a security module gives by its own rules (security.selinux). Set-id bits are left out,
    with a notice, where the owner isn't the snapshot's.
    `numeric_owner=False` looks names up here and falls back to the numbers. `verify` reads each file again from the disk.

    ItemDone actions: "restored", "updated", "unchanged", "skipped", "folder", "deleted". Summary keys: files_restored,
    files_skipped (skipped or unchanged), files_deleted, dirs_restored, bytes_restored, bytes_skipped, errors.
    """

    def __init__(
        self,
        key: Key,
        index: Index,
        *,
        tree: str,
        target: bytes,
        subfolder: bytes = b"/",
        device: int | None = None,
        includes: Sequence[bytes] = (),
        excludes: Sequence[bytes] = (),
        iincludes: Sequence[bytes] = (),
        iexcludes: Sequence[bytes] = (),
        overwrite: Literal["always", "if-changed", "if-newer", "never"] = "always",
        delete: bool = False,
        sparse: bool = True,
        numeric_owner: bool = True,
        owner: bool = True,
        root_metadata: bool = False,
        verify: bool = False,
        dry_run: bool = False,
        verbose: bool = False,
    ) -> None: ...

@final
class Check(Run):
    """Load every tree below `roots` and see that each blob they name is in the index. Gives `Problem` events.

    Kinds: MissingTree, DamagedTree, UnsortedTree, NamelessNode, UnsafeName, UnknownType, MissingContent, MissingSubtree,
    MissingBlob. Summary keys: trees, blobs_used.
    """

    def __init__(self, key: Key, index: Index, *, roots: Sequence[str]) -> None: ...
    def unused(self) -> list[tuple[BlobKind, str]]:
        """The blobs that no tree names, each once. It says so only after a run that finished without a Problem: where a tree
        couldn't be read, what it names looks unused."""
