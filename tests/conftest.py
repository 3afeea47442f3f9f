"""Test settings: no deadline, since the first example of a property test may compile a kernel."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
