"""Runs SCALE-Sim v3 on the config, topology and layout in the current folder, in an environment of its own."""

from scalesim.scale_sim import scalesim

scalesim(
    save_disk_space=True,
    verbose=False,
    config="config.cfg",
    topology="topology.csv",
    layout="layout.csv",
    input_type_gemm=True,
).run_scale(top_path="out")
