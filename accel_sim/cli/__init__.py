"""The commands: `accel-sim capture|trace|simulate|pareto|validate|schema`."""
