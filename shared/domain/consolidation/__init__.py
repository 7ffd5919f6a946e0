"""Consolidation: the cheapest way for a fleet of clusters to hold the work that it holds. Pure: nothing is asked, nothing is done."""
