"""Studies: several machines on several workloads, compared, tabulated and drawn."""
