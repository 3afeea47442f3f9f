"""Runs ZigZag on workload.yaml in the current folder and prints one JSON line, in an environment of its own.

python run.py ACCELERATOR MAPPING
"""

import json
import logging
import sys
import time

from zigzag import api

accelerator, mapping = sys.argv[1:]
# ZigZag sets its logging up itself at every call; only its warnings are wanted.
logging.disable(logging.INFO)
begin = time.perf_counter()
_, _, results = api.get_hardware_performance_zigzag(
    "workload.yaml", accelerator, mapping, opt="latency", dump_folder="out", loma_show_progress_bar=False
)
seconds = time.perf_counter() - begin
layers = [
    {
        "name": evaluation.layer.name,
        "ideal_temporal_cycle": evaluation.ideal_temporal_cycle,
        "latency_total0": evaluation.latency_total0,
        "latency_total2": evaluation.latency_total2,
    }
    for evaluation, _ in results[0][1]
]
print(json.dumps({"seconds": seconds, "layers": layers}))
