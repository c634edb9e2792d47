"""What a cost model sees of a candidate: its knobs, or the context of the loops of its nest."""
