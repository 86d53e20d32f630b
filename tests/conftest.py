"""For all tests."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# What a shell starts in the background ignores SIGINT, and so would all processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast the machine is at the moment decides no test: Hypothesis allows an example 0.2 seconds.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
