"""The demonstration: a sample library, a stand-in router that sleeps, and the story told meanwhile."""
