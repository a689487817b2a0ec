"""What signals mean to this process: two flags that `process` sets and whoever waits looks at, and what is let go."""

from __future__ import annotations

import threading
from collections.abc import Callable

stop = threading.Event()
"""Set by SIGINT and SIGTERM; every wait of the engine looks at it."""

at_prompt = threading.Event()
"""Set while a person is asked for a password: then a signal ends the program at once."""

held: list[Callable[[], None]] = []
"""What gives back the locks that the command holds. Called where a stopped command doesn't come back to do it itself,
because a storage keeps it waiting; the process ends right after."""
