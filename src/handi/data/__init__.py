"""Clip sets that training reads: the synthetic world, your own footage, prepared shards; and what prepares them."""
