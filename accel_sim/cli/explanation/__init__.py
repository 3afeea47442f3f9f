"""The parts of `simulate --explain`: what the array does, where operands come from, cores, and the schedule's tables.

Each takes what the timing model worked out and says it; nothing here is timed anew.
"""
