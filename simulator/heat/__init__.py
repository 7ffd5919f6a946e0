"""Heat: stacks of networks, server groups and cluster templates, which are really made in the simulated services."""

from simulator.heat.engine import Heat
from simulator.heat.routes import routes

__all__ = ["Heat", "routes"]
