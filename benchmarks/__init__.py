"""The simulator beside tools that nobody here wrote, and beside its own limits: `make bench`."""
