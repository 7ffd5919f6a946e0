"""Neutron: networks, subnets, routers, ports, security groups and floating IPs, with quotas, tags and the refusals of real ones."""

from simulator.network.neutron import Neutron
from simulator.network.views import routes

__all__ = ["Neutron", "routes"]
