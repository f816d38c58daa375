"""A service that does not exist, under load that anyone can repeat: `traffic` plays it, `weather` is what
healthy services do, `faults` is what goes wrong. Everything follows from a seed."""
