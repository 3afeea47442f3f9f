"""Progress, on stderr."""

from __future__ import annotations

import sys
import time


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)
