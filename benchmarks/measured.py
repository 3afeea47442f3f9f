"""Runs a program and writes what it used: `python measured.py RESULT.json PROGRAM ARGUMENTS...`.

A process of its own, and a small one: Linux counts the largest resident set of a program from the process that started
it, so started by the benchmarks themselves every program would seem to need at least as much memory as they do.
"""

import json
import os
import subprocess
import sys
import time


def main() -> int:
    result, *command = sys.argv[1:]
    begin = time.perf_counter()
    child = subprocess.Popen(command)
    # wait4 rather than wait: it hands back what this child alone used (ru_maxrss in KB on Linux).
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begin
    with open(result, "w") as file:
        json.dump({"seconds": seconds, "peak_bytes": used.ru_maxrss * 1024}, file)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
