"""The parts of the page: one file each, with `section(collection, site)`, which is None where there is nothing to say."""
