"""What signals mean to this process: two flags. `process` sets them, whoever waits looks at them."""

from __future__ import annotations

import threading

stop = threading.Event()
"""Set by SIGINT and SIGTERM; every wait of the engine looks at it."""

at_prompt = threading.Event()
"""Set while a person is asked for a password: then a signal ends the program at once."""
