"""Clip sets that training reads: the world, your own footage, prepared shards; and what prepares them."""
