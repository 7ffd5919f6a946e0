"""A simulated OpenStack, on the wire: Keystone, Magnum, Nova, Glance and Neutron as far as a client of Magnum needs them.

Codes, bodies and moments follow what real services answered (OpenStack 2026.2). Times can be sped up, faults are scripted, and
with the cost model on each Magnum call takes the time that the real service takes.
"""
