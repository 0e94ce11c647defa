"""Data sets: public ones, simulated atlases, dependence planted into real cells."""
