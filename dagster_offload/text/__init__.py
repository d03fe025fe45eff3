"""Pure functions on strings for all packages: token estimates, JSON that models write, harmful characters."""
