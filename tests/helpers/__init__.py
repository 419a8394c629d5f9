"""What several tests share that is no fixture: small data, stand-ins, faults."""
