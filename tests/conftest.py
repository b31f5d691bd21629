"""How hard the property tests try: `pytest --hypothesis-profile=many` for 10,000 examples each."""

from hypothesis import HealthCheck, settings

# No deadline: a busy machine is no defect.
settings.register_profile("few", max_examples=300, deadline=None)
settings.register_profile(
    "many", max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("few")
