"""Compiled loops over a mapped netlist: Boolean simulation on 64 streams at once, arrival times, event energies.

Numbers of pins, nets and tables are those of `netlist` and `cell_arrays`. One bit of a word is one stream.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from accel_sim.synthesis.boolean import AND, DEEPEST_STACK, NOT, ONE, OR, XOR

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_NONE = np.uint64(0)


@njit(cache=True, inline="always")
def _ones(word):
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True)
def _run(programs, first, last, values, nets, base, stack):
    """The value of a program whose pins are nets[base], nets[base + 1], …"""
    top = -1
    for at in range(first, last):
        step = programs[at]
        if step >= 0:
            top += 1
            stack[top] = values[nets[base + step]]
        elif step == NOT:
            stack[top] = ~stack[top]
        elif step == AND:
            top -= 1
            stack[top] &= stack[top + 1]
        elif step == OR:
            top -= 1
            stack[top] |= stack[top + 1]
        elif step == XOR:
            top -= 1
            stack[top] ^= stack[top + 1]
        else:
            top += 1
            stack[top] = _ALL if step == ONE else _NONE
    return stack[0]


@njit(cache=True)
def simulate(
    stimuli, warm_up, kind, first_pin, nets, net_count, combinational, input_nets, output_nets,
    inputs, programs, function_of, functions, data_pin, clock_pin, event_of, events, event_first,
):  # fmt: skip
    """Zero-delay simulation, flip-flops starting at 0.

    stimuli uint64 [cycles, input bits]. Returns the outputs uint64 [cycles, output bits] before each clock edge, the
    toggles int64 [nets, 2] (rising, falling), and how often each event of each instance was seen rising and falling,
    int64 [·, 2]; both count over the steps from cycle `warm_up` − 1 on, all streams together.
    """
    instances = len(kind)
    values = np.zeros(net_count, np.uint64)
    before = np.zeros(net_count, np.uint64)
    state = np.zeros(instances - combinational, np.uint64)
    outputs = np.zeros((len(stimuli), len(output_nets)), np.uint64)
    toggles = np.zeros((net_count, 2), np.int64)
    seen = np.zeros((event_first[-1], 2), np.int64)
    stack = np.zeros(DEEPEST_STACK, np.uint64)
    one_state = np.zeros(1, np.uint64)
    own = np.zeros(1, np.int32)
    for cycle in range(len(stimuli)):
        values[1] = _ALL
        values[2] = _ALL  # what toggles does so behind the rising edge, while the clock is high
        for bit in range(len(input_nets)):
            values[input_nets[bit]] = stimuli[cycle, bit]
        for at in range(combinational, instances):
            k = kind[at]
            one_state[0] = state[at - combinational]
            base = first_pin[at] + inputs[k]
            for place in range(function_of[k + 1] - function_of[k]):
                first, last = functions[function_of[k] + place]
                values[nets[base + place]] = _run(programs, first, last, one_state, own, 0, stack)
        for at in range(combinational):
            k = kind[at]
            base = first_pin[at]
            for place in range(function_of[k + 1] - function_of[k]):
                first, last = functions[function_of[k] + place]
                values[nets[base + inputs[k] + place]] = _run(programs, first, last, values, nets, base, stack)
        for bit in range(len(output_nets)):
            outputs[cycle, bit] = values[output_nets[bit]]
        if cycle >= warm_up and cycle > 0:
            for net in range(net_count):
                changed = values[net] ^ before[net]
                if changed:
                    rising = _ones(changed & values[net])
                    toggles[net, 0] += rising
                    toggles[net, 1] += _ones(changed) - rising
            _count_events(
                values, before, kind, first_pin, nets, programs, clock_pin, event_of, events, event_first, seen, stack
            )
        for at in range(combinational, instances):
            state[at - combinational] = values[nets[first_pin[at] + data_pin[kind[at]]]]
        before[:] = values
    return outputs, toggles, seen


@njit(cache=True)
def _count_events(
    values, before, kind, first_pin, nets, programs, clock_pin, event_of, events, event_first, seen, stack
):
    for at in range(len(kind)):
        k = kind[at]
        base = first_pin[at]
        named = _NONE  # streams whose state an earlier event of the same pins has named, after the step and
        named_before = _NONE  # before it, which is what the rising clock edge sees
        last_pin = -1
        last_related = -1
        for place in range(event_of[k + 1] - event_of[k]):
            row = event_of[k] + place
            pin, related = events[row, 0], events[row, 1]
            if pin != last_pin or related != last_related:
                named = _NONE
                named_before = _NONE
                last_pin, last_related = pin, related
            where = event_first[at] + place
            now = _condition(programs, events[row], values, nets, base, stack, named)
            named |= now
            if pin == clock_pin[k]:
                then = _condition(programs, events[row], before, nets, base, stack, named_before)
                named_before |= then
                seen[where, 0] += _ones(then)
                seen[where, 1] += _ones(now)
                continue
            changed = (values[nets[base + pin]] ^ before[nets[base + pin]]) & now
            if related >= 0 and related != clock_pin[k]:
                changed &= values[nets[base + related]] ^ before[nets[base + related]]
            if changed:
                rising = _ones(changed & values[nets[base + pin]])
                seen[where, 0] += rising
                seen[where, 1] += _ones(changed) - rising


@njit(cache=True, inline="always")
def _condition(programs, event, values, nets, base, stack, named):
    if event[6]:
        return ~named
    return _run(programs, event[2], event[3], values, nets, base, stack)


@njit(cache=True)
def look_up(first, shape, numbers, table, transition, other):
    """Bilinear in a table, and beyond its edges."""
    rows, columns = shape[table]
    axis, across, values = first[table]
    i, down = 0, 0.0
    if rows > 1:
        while i < rows - 2 and transition >= numbers[axis + i + 1]:
            i += 1
        down = (transition - numbers[axis + i]) / (numbers[axis + i + 1] - numbers[axis + i])
    j, along = 0, 0.0
    if columns > 1:
        while j < columns - 2 and other >= numbers[across + j + 1]:
            j += 1
        along = (other - numbers[across + j]) / (numbers[across + j + 1] - numbers[across + j])
    low = values + i * columns + j
    left = numbers[low]
    if rows > 1:
        left += (numbers[low + columns] - left) * down
    if columns == 1:
        return left
    right = numbers[low + 1]
    if rows > 1:
        right += (numbers[low + 1 + columns] - right) * down
    return left + (right - left) * along


@njit(cache=True)
def propagate(
    start_nets, slew, kind, first_pin, nets, net_count, combinational, load, arc_of, arcs, table_first, table_shape,
    numbers,
):  # fmt: skip
    """Latest arrivals and slowest transitions, float64 [nets, 2] (rising, falling; −inf where nothing arrives).

    Flip-flops launch at their clock's edge, time 0; `start_nets` (the input ports) change at 0 with transition `slew`.
    """
    arrival = np.full((net_count, 2), -np.inf)
    transition = np.zeros((net_count, 2))
    arrival[2, 0] = 0.0
    transition[:3] = slew
    for net in start_nets:
        arrival[net] = 0.0
        transition[net] = slew
    instances = len(kind)
    for step in range(instances):
        at = step + combinational if step < instances - combinational else step - (instances - combinational)
        k = kind[at]
        for row in range(arc_of[k], arc_of[k + 1]):
            source = nets[first_pin[at] + arcs[row, 0]]
            target = nets[first_pin[at] + arcs[row, 1]]
            for edge in range(2):
                delay_table, slew_table = arcs[row, 3 + edge], arcs[row, 5 + edge]
                if delay_table < 0:
                    continue
                for cause in range(2):
                    sense = arcs[row, 2]
                    if (sense == 1 and cause != edge) or (sense == -1 and cause == edge):
                        continue
                    if arrival[source, cause] == -np.inf:
                        continue
                    given = transition[source, cause]
                    delay = look_up(table_first, table_shape, numbers, delay_table, given, load[target])
                    arrival[target, edge] = max(arrival[target, edge], arrival[source, cause] + delay)
                    if slew_table >= 0:
                        made = look_up(table_first, table_shape, numbers, slew_table, given, load[target])
                        transition[target, edge] = max(transition[target, edge], made)
    return arrival, transition


@njit(cache=True)
def event_energy(
    seen, toggles, transition, load, kind, first_pin, nets, clock_pin, inputs, event_of, events, event_first,
    share, per_load, table_first, table_shape, numbers,
):  # fmt: skip
    """pJ of all events of each instance, float64 [instances, 2]: of the clock pin, of everything else.

    An output's toggles are shared among its events as they were seen: several inputs may have changed in one step.
    Where none was seen (no table names what happened) the mean of the tables counts.
    """
    energy = np.zeros((len(kind), 2))
    for at in range(len(kind)):
        k = kind[at]
        count = event_of[k + 1] - event_of[k]
        first = event_first[at]
        for place in range(count):
            row = event_of[k] + place
            pin, related = events[row, 0], events[row, 1]
            net = nets[first_pin[at] + pin]
            cause = net if related < 0 else nets[first_pin[at] + related]
            for edge in range(2):
                table = events[row, 4 + edge]
                if table < 0:
                    continue
                times = float(seen[first + place, edge])
                if related >= 0 and related != clock_pin[k]:
                    all_seen, all_tables = 0.0, 0
                    for other in range(count):
                        if events[event_of[k] + other, 0] == pin and events[event_of[k] + other, 4 + edge] >= 0:
                            all_seen += seen[first + other, edge]
                            all_tables += 1
                    toggled = toggles[net, edge]
                    times = toggled * times / all_seen if all_seen else toggled / all_tables
                if times == 0.0:
                    continue
                given = transition[cause, edge] if related < 0 else (transition[cause, 0] + transition[cause, 1]) / 2
                charge = load[net] if pin >= inputs[k] else 0.0
                one = look_up(table_first, table_shape, numbers, table, given, charge) - per_load[row] * charge
                energy[at, 0 if pin == clock_pin[k] else 1] += times * share[row] * one
    return energy
