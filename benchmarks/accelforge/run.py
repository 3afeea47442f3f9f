"""Runs AccelForge on the products of a JSON file and prints one JSON line, in an environment of its own.

python run.py PARAMETERS.json      {"machine": {...}, "products": [{"name", "tokens", "features", "outputs"}, ...]}
"""

import json
import sys
import time
from pathlib import Path

from accelforge.frontend.mapper.metrics import Metrics
from accelforge.frontend.spec import Spec
from accelforge.mapper.FFM.mappings import Mappings

# It draws each mapping it evaluates into the current folder, with Graphviz's `dot`; the drawing is not wanted.
Mappings.render = lambda self, *arguments, **options: ""

INPUTS = Path(__file__).parent
parameters = json.loads(Path(sys.argv[1]).read_text())


def work_out(product):
    begin = time.perf_counter()
    spec = Spec.from_yaml(
        INPUTS / "machine.yaml", INPUTS / "product.yaml", jinja_parse_data={**parameters["machine"], **product}
    )
    spec.mapper.metrics = Metrics.ENERGY_DELAY_PRODUCT
    found = spec.map_workload_to_arch(print_progress=False)
    best = found[0] if len(found) > 1 else found
    energy, actions = best.energy(per_component=True, per_action=True), best.actions(per_component=True)
    return {
        "name": product["name"],
        "seconds": time.perf_counter() - begin,
        "latency_s": best.latency(),
        "energy_j": {"/".join(key): value for key, value in energy.items()},
        "actions": {"/".join(key): value for key, value in actions.items()},
    }


print(json.dumps([work_out(product) for product in parameters["products"]]))
