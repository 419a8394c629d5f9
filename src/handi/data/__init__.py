"""Clip sets that training reads: the synthetic world, your own footage."""
