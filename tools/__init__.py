"""Tools of this repository: what it depends on, under which licences and from which versions on. Not part of the product."""
