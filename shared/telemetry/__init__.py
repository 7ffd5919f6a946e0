"""Readers of Prometheus: Kepler, DCGM, Furiosa, Rebellions, IPMI, Redfish and kube-state-metrics."""
