"""`make run`: the whole system on one machine, with real servers of its own where none is given."""
