"""The commands: `accel-sim capture|simulate|pareto|validate|schema`."""
