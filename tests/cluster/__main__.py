"""`python -m tests.cluster`: builds the programs, starts and ends the cluster that the tests run on."""

from __future__ import annotations

import sys

from tests.cluster.cli import main

sys.exit(main())
