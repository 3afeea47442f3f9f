"""A graphics card that can be measured, beside what the simulator predicts for it.

`measure` times dense and 2:4-sparse products on the card; `model` predicts the same seconds with the machinery of
`simulate`; `fit` finds the few parameters that no data sheet gives, on a third of the shapes; `report` tells how far
off the other two thirds are, beside a constant and a roofline. Only `measure` imports torch.
"""
