"""Pure functions on strings that every package may use: tokens, JSON that models write, characters that must not pass."""
