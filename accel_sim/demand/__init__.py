"""What a schedule asks of the memories, request by request: which bytes of which operand, and in which cycle."""

from accel_sim.demand.operation import Demand, SelectionDemand, VectorDemand
from accel_sim.demand.product import ProductDemand
from accel_sim.demand.requests import DRAM, LEVELS, Extents, Requests, in_bursts

__all__ = [
    "DRAM",
    "LEVELS",
    "Demand",
    "Extents",
    "ProductDemand",
    "Requests",
    "SelectionDemand",
    "VectorDemand",
    "in_bursts",
]
